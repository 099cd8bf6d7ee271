import test from 'ava'
import { Tokenizer } from '../../lib/data/text/tokenizer.js'
import { CausalLM } from '../../lib/models/causal-lm.js'
import type { RewardSample } from '../../lib/rollout/rewards.js'
import { dpo } from '../../lib/train/dpo.js'
import { grpo } from '../../lib/train/grpo.js'
import { ppo } from '../../lib/train/ppo.js'
import { sft } from '../../lib/train/sft.js'
import { cleanFolder } from '../helpers/scratch.js'
import { instructionRows, tinyConfig, tinyModel } from '../helpers/tiny-training.js'
import { byteTokenizer } from '../helpers/tokenizers.js'

// The rules are tested in warnings.test.ts; here each is told by a training that goes wrong in that way.

interface Told {
  /** Codes of the warnings with their steps. */
  warnings: { code: string; step: number }[]
  reason: string
}

async function told(
  run: AsyncIterable<{ type: string; code?: unknown; step?: unknown; reason?: unknown }>,
): Promise<Told> {
  const result: Told = { warnings: [], reason: '' }
  for await (const { type, code, step, reason } of run) {
    if (type === 'warning') result.warnings.push({ code: String(code), step: Number(step) })
    if (type === 'end') result.reason = String(reason)
  }
  return result
}

const codesOf = ({ warnings }: Told) => warnings.map(({ code }) => code)
const prompts = instructionRows(8)
const plain = { template: 'plain' } as const

test('sft: nothing is said of a training that learns, and a learning rate that does nothing is told', async (t) => {
  const options = { ...plain, data: instructionRows(16), batchSize: 2, maxSteps: 60, maxLength: 64 }
  await using model = await tinyModel()
  t.deepEqual(codesOf(await told(sft({ ...options, model, learningRate: 1e-9 }))), ['lossNotFalling'])
  t.deepEqual(codesOf(await told(sft({ ...options, model, learningRate: 3e-3 }))), [])
})

test('sft: overfitting eight rows', async (t) => {
  await using model = await tinyModel()
  const run = sft({
    ...plain,
    model,
    data: instructionRows(8),
    validation: instructionRows(8, 50),
    batchSize: 8,
    maxSteps: 60,
    learningRate: 1e-2,
    maxLength: 64,
    evaluation: { everySteps: 10 },
  })
  t.deepEqual(codesOf(await told(run)), ['validationRises'])
})

test('dpo: pairs that differ in their ends alone push both responses down', async (t) => {
  await using model = await tinyModel()
  const data = Array.from({ length: 16 }, (_, i) => ({
    prompt: `Say ${i}`,
    chosen: `yes ${i} is`,
    rejected: `yes ${i} isnt`,
  }))
  const options = { ...plain, model, data, batchSize: 8, maxSteps: 40 }
  t.deepEqual(codesOf(await told(dpo({ ...options, learningRate: 1e-2 }))), ['chosenFalls'])
})

test('dpo: a gentle training of the same pairs says nothing, nor does simpo, whose rewards are always below 0', async (t) => {
  const data = Array.from({ length: 16 }, (_, i) => ({
    prompt: `${i}`,
    chosen: `yes ${i}`,
    rejected: `no ${i}`,
  }))
  for (const loss of ['sigmoid', 'simpo'] as const) {
    await using model = await tinyModel()
    const run = dpo({ ...plain, model, data, loss, batchSize: 8, maxSteps: 40, learningRate: 1e-3 })
    t.deepEqual(codesOf(await told(run)), [], loss)
  }
})

test('kto: how many responses are desirable and undesirable, with their weights', async (t) => {
  await using model = await tinyModel()
  const rows = Array.from({ length: 20 }, (_, i) => ({
    prompt: `${i}`,
    completion: 'yes',
    label: i % 10 !== 0,
  }))
  const messages: string[] = []
  const run = async (options: object, data = rows) => {
    for await (const event of dpo({ ...plain, model, loss: 'kto', data, maxSteps: 1, ...options }))
      if (event.type === 'warning') messages.push(`${event.step} ${event.code} ${event.message}`)
    return messages.splice(0)
  }
  t.deepEqual(await run({}), [
    '0 ktoBalance Of 20 responses, 18 are desirable and 2 are undesirable: their weighted ratio is 9.0, where 1 to 1.33 is recommended; set undesirableWeight to about 6.8',
  ])
  t.deepEqual(await run({ undesirableWeight: 6.8 }), [])
  t.regex((await run({ desirableWeight: 0.01 }))[0]!, /is 0\.090, .*; set desirableWeight to about 0\.11$/)
  t.deepEqual(await run({ desirableWeight: 0.11 }), [])
  const good = rows.filter(({ label }) => label)
  t.regex((await run({}, good))[0]!, /18 are desirable and 0 are undesirable: kto needs both/)
})

/** Short enough that hardly a response of random weights ends. */
const rollouts = { ...plain, data: prompts, batchSize: 4, maxNewTokens: 4 }

test('grpo: a reward that is the same for all, responses that do not end; a resumed run does not say it again', async (t) => {
  await using model = await tinyModel()
  const options = {
    ...rollouts,
    model,
    reward: (samples: readonly RewardSample[]) => samples.map(() => 1),
    groupSize: 2,
    iterations: 12,
    output: cleanFolder(t),
  }
  const first = grpo(options)
  const before: string[] = []
  for await (const event of first) {
    if (event.type === 'warning') before.push(`${event.step} ${event.code}`)
    if (event.type === 'step' && event.step === 6) first.stop()
  }
  t.deepEqual(before, ['5 responsesTruncated', '5 noSpread'])
  const resumed = await told(grpo({ ...options, resume: true }))
  t.deepEqual(resumed, { warnings: [], reason: 'completed' })
})

test('ppo: scores far from what the critic may reach, unless they are normalized or bounded', async (t) => {
  const options = {
    ...rollouts,
    reward: (samples: readonly RewardSample[]) => samples.map(() => 20),
    iterations: 5,
    learningRate: 1e-4,
    criticLearningRate: 1e-2,
  }
  for (const [more, expected] of [
    [{}, ['responsesTruncated', 'valueClip']],
    [{ scoreNormalize: true }, ['responsesTruncated']],
    [{ scoreClip: 1 }, ['responsesTruncated']],
  ] as const) {
    await using model = await tinyModel()
    t.deepEqual(codesOf(await told(ppo({ ...options, ...more, model }))), [...expected])
  }
})

test('ppo: a score that rises while the KL explodes, then the limit that ends the run', async (t) => {
  const options = {
    ...rollouts,
    reward: (samples: readonly RewardSample[]) =>
      samples.map(({ tokenIds }) => tokenIds.filter((id) => id < 128).length / 6),
    batchSize: 16,
    iterations: 20,
    maxNewTokens: 6,
    learningRate: 1e-2,
    klCoef: 0,
  }
  await using model = await tinyModel()
  t.deepEqual(codesOf(await told(ppo({ ...options, model }))), ['responsesTruncated', 'klExplodes'])
  await using other = await tinyModel()
  const limited = await told(ppo({ ...options, model: other, kl: { limit: 3 } }))
  t.is(limited.reason, 'klLimit')
  t.is(codesOf(limited).at(-1), 'klExplodes')
  t.true(limited.warnings.at(-1)!.step < 20)
})

test('ppo: a reward for short responses leaves one token, always the same', async (t) => {
  await using model = await tinyModel()
  const run = ppo({
    ...rollouts,
    model,
    reward: (samples: readonly RewardSample[]) => samples.map(({ tokenIds }) => -tokenIds.length / 24),
    batchSize: 16,
    iterations: 30,
    maxNewTokens: 24,
    learningRate: 1e-2,
    klCoef: 0,
  })
  t.deepEqual(codesOf(await told(run)), ['responsesTruncated', 'responsesShrink', 'entropyCollapse'])
})

test('without a stop token rollouts warn, and rows with responses are an error', async (t) => {
  const { eos_token_id: _, ...config } = tinyConfig
  const { tokenizerJson } = byteTokenizer().files
  const tokenizer = Tokenizer.fromFiles({
    tokenizerJson,
    tokenizerConfig: JSON.stringify({ tokenizer_class: 'PreTrainedTokenizerFast' }),
  })
  await using model = await CausalLM.create(config, { seed: 0, tokenizer })
  t.deepEqual(model.stopIds, [])
  const run = ppo({ ...rollouts, model, iterations: 5, reward: (samples) => samples.map(() => 1) })
  t.deepEqual((await told(run)).warnings, [{ code: 'noStopToken', step: 0 }])
  await t.throwsAsync(sft({ ...plain, model, data: prompts, maxSteps: 1 }).finish(), {
    code: 'ERR_DATA',
    message: /stop token|ends? an answer|end of answer/,
  })
})
