import test from 'ava'
import { grpo, ppo, rloo } from '../../lib/index.js'
import { tinyPolicy, wished, wishes } from '../helpers/tiny-policy.js'

type Options = Record<string, unknown>
const recipes = { ppo, grpo, rloo } as unknown as Record<string, (options: Options) => unknown>

/** Options that would change nothing, or what they ask for cannot be, and what is said of them. */
const REFUSED: [recipes: string, options: Options, says: RegExp][] = [
  ['ppo grpo rloo', { topK: 5 }, /unknown option topK/],
  ['ppo grpo rloo', { topP: 0.9 }, /unknown option topP/],
  ['ppo grpo rloo', { minP: 0.1 }, /unknown option minP/],
  ['ppo grpo rloo', { repetitionPenalty: 1.1 }, /unknown option repetitionPenalty/],
  ['ppo grpo rloo', { stop: 'x' }, /unknown option stop/],
  ['ppo grpo rloo', { temperature: 0 }, /option temperature must be more than 0/],
  ['ppo grpo rloo', { lora: { dropout: 0.1 } }, /unknown option lora\.dropout/],
  ['ppo grpo rloo', { saveDtype: 'float16' }, /option saveDtype has no effect without output/],
  ['ppo grpo rloo', { resume: true }, /option resume has no effect without output/],
  ['ppo grpo rloo', { checkpoints: { keep: 3 } }, /option checkpoints has no effect without output/],
  [
    'ppo grpo rloo',
    { output: 'x', resume: true, overwrite: true },
    /overwrite cannot be combined with resume/,
  ],
  ['ppo grpo rloo', { decayRatio: 0.1 }, /decayRatio has no effect without schedule/],
  ['ppo grpo rloo', { minLearningRateRatio: 0.1 }, /minLearningRateRatio has no effect with schedule/],
  ['ppo grpo rloo', { lora: {}, output: 'x', saveDtype: 'float16' }, /saveDtype has no effect with lora/],
  ['ppo grpo rloo', { rewardTimeoutMs: 2 ** 31 }, /rewardTimeoutMs must be at most 2147483647/],
  ['ppo', { kl: { direction: 'forward' } }, /kl\.direction has no effect without kl\.estimator full/],
  ['ppo', { kl: { horizon: 100 } }, /kl\.horizon has no effect without kl\.target/],
  ['ppo', { kl: { in: 'loss', target: 3 } }, /kl\.target has no effect with kl\.in 'loss'/],
  ['ppo', { kl: { estimator: 'k2' } }, /kl\.estimator must be k1 or k3 with kl\.in 'reward'/],
  ['ppo', { kl: { estimator: 'full' } }, /kl\.estimator must be k1 or k3 with kl\.in 'reward'/],
  ['ppo', { kl: { in: 'loss', estimator: 'k1' } }, /and k2, k3 or full with kl\.in 'loss'/],
  ['ppo', { klCoef: 0, kl: { target: 3 } }, /kl\.target has no effect with klCoef 0/],
  ['ppo', { klCoef: 0, kl: { in: 'loss' } }, /kl\.in has no effect with klCoef 0/],
  ['ppo', { klCoef: 0, kl: { estimator: 'k3' } }, /kl\.estimator has no effect with klCoef 0/],
  ['ppo', { iterations: 3, criticWarmup: 3 }, /criticWarmup must be less than iterations/],
  ['ppo', { dualClip: 1 }, /option dualClip must be more than 1/],
  ['ppo', { groupSize: 4 }, /unknown option groupSize/],
  ['grpo rloo', { klCoef: 0, reference: { backward() {} } }, /reference has no effect with klCoef 0/],
  ['grpo rloo', { klCoef: 0, klLimit: 3 }, /klLimit has no effect with klCoef 0/],
  ['ppo grpo rloo', { batchSize: 2 ** 31 }, /option batchSize must be at most 1048576/],
  ['grpo rloo', { groupSize: 2 ** 31 }, /option groupSize must be at most 1048576/],
  ['grpo rloo', { groupSize: 1 }, /option groupSize must be at least 2/],
  ['grpo', { reduction: 'drGrpo', scaleRewards: 'group' }, /must be none with reduction 'drGrpo'/],
  ['grpo', { overlongTokens: 8 }, /overlongTokens must be less than maxNewTokens/],
  ['grpo', { dualClip: 3 }, /unknown option dualClip/],
]

test('options without an effect are refused at once', async (t) => {
  await using model = await tinyPolicy()
  const shared = { model, data: wishes, reward: wished, maxNewTokens: 8 }
  for (const [names, options, says] of REFUSED) {
    for (const name of names.split(' ')) {
      const error = t.throws(
        () => recipes[name]!({ ...shared, ...options }),
        { code: 'ERR_INVALID_ARGUMENT' },
        `${name} ${JSON.stringify(options)}`,
      )
      t.regex(error?.message ?? '', says)
    }
  }
})

test('a rollout of more responses than fit in memory is refused before a prompt is read', async (t) => {
  await using model = await tinyPolicy()
  const options = { model, data: 'nowhere.jsonl', reward: wished, batchSize: 2 ** 20, groupSize: 3 }
  await t.throwsAsync(grpo(options as never).finish(), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /^a rollout would have 3145728 responses .* more than 1048576: lower batchSize$/,
  })
})

test('more mini-batches than responses are refused before a prompt is read', async (t) => {
  await using model = await tinyPolicy()
  const shared = { model, data: 'nowhere.jsonl', reward: wished, batchSize: 3 } as never
  const says = (responses: number) => ({
    message: `miniBatches 7 is more than the ${responses} responses of a rollout`,
  })
  await t.throwsAsync(ppo({ ...(shared as object), miniBatches: 7 } as never).finish(), says(3))
  await t.throwsAsync(
    rloo({ ...(shared as object), groupSize: 2, miniBatches: 7 } as never).finish(),
    says(6),
  )
})
