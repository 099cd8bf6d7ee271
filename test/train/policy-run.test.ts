import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import {
  CausalLM,
  grpo,
  type PpoOptions,
  ppo,
  RewardModel,
  type RewardSample,
  rloo,
} from '../../lib/index.js'
import type { PolicyStepEvent } from '../../lib/train/run/events.js'
import { close } from '../helpers/close.js'
import { eventsOf, only } from '../helpers/run.js'
import { cleanFolder } from '../helpers/scratch.js'
import {
  EOS,
  numbersOf,
  policyConfig,
  tinyPolicy,
  tokenizer,
  type Wish,
  wished,
  wishes,
} from '../helpers/tiny-policy.js'
import { weightsOf } from '../helpers/tiny-training.js'

const shared = { data: wishes, batchSize: 6, maxNewTokens: 8, iterations: 2, learningRate: 3e-3 } as const
const groups = { ...shared, batchSize: 3, groupSize: 4, klCoef: 0.1 } as const

const common = [
  ['approxKl', 'clipFraction', 'distinctFraction', 'entropy', 'epoch', 'gradNorm', 'kl', 'klCoef'],
  ['learningRate', 'logProbGap', 'loss', 'policyLoss', 'ratioMean', 'ratioVariance', 'responseLength'],
  ['reward', 'score', 'step', 'stoppedFraction', 'tokens', 'tokensPerSecond', 'updates'],
].flat()

const RUNS = {
  ppo: {
    own: ['explainedVariance', 'valueClipFraction', 'valueGradNorm', 'valueLoss'],
    start: (model: CausalLM, more: object = {}) => ppo<Wish>({ ...shared, model, reward: wished, ...more }),
  },
  grpo: {
    own: ['scoreSpread', 'withoutSpread'],
    start: (model: CausalLM, more: object = {}) => grpo<Wish>({ ...groups, model, reward: wished, ...more }),
  },
  rloo: {
    own: ['scoreSpread', 'withoutSpread'],
    start: (model: CausalLM, more: object = {}) => rloo<Wish>({ ...groups, model, reward: wished, ...more }),
  },
}

for (const [recipe, { own, start }] of Object.entries(RUNS)) {
  test(`${recipe}: every metric is there and finite`, async (t) => {
    await using model = await tinyPolicy(10)
    const events = await eventsOf<{ type: string }>(start(model, { epochs: 2, miniBatches: 2 }))
    const steps = events.filter(({ type }) => type === 'step') as PolicyStepEvent[]
    t.is(steps.length, 2)
    for (const step of steps) {
      const { type, seconds, scoreBySource, ...numbers } = step
      t.is(type, 'step')
      t.deepEqual(Object.keys(numbers).sort(), [...common, ...own].sort())
      for (const [name, value] of Object.entries(numbers)) t.true(Number.isFinite(value), `${name} ${value}`)
      t.deepEqual(Object.keys(scoreBySource), ['wished'])
      close(t, scoreBySource.wished!, step.score, { absolute: 1e-12 })
      t.deepEqual(Object.keys(seconds).sort(), ['rollout', 'score', 'update'])
      t.true(Object.values(seconds).every((value) => value > 0))
      t.is(step.updates, 4)
      t.true(step.distinctFraction > 0.2 && step.distinctFraction <= 1)
      t.true(step.stoppedFraction > 0 && step.stoppedFraction <= 1)
      t.true(step.gradNorm > 0 && step.entropy > 0.5 && step.ratioMean > 0.5)
    }
    t.deepEqual(
      events.map(({ type }) => type),
      ['start', 'step', 'step', 'end'],
    )
  })

  test(`${recipe}: rollout and training forward agree at every temperature, on ragged prompts`, async (t) => {
    for (const temperature of [0.6, 1, 1.7]) {
      await using model = await tinyPolicy(10)
      const steps = only(
        await eventsOf(start(model, { temperature }) as AsyncIterable<PolicyStepEvent>),
        'step',
      )
      const gaps = steps.map(({ logProbGap }) => logProbGap)
      t.log(`${recipe} at ${temperature}: ${Math.max(...gaps).toExponential(1)}`)
      for (const gap of gaps) t.true(gap > 0 && gap < 1e-4, `${gap}`)
    }
  })

  test(`${recipe}: a response ends at its stop token, and samples tell what it earned`, async (t) => {
    await using model = await tinyPolicy(10)
    const seen: RewardSample<Wish>[] = []
    const reward = (samples: readonly RewardSample<Wish>[]) => {
      seen.push(...samples)
      return wished(samples)
    }
    const run = start(model, { reward, iterations: 3, samples: { count: 2, everySteps: 2 } })
    const events = await eventsOf(run as AsyncIterable<Parameters<typeof only>[0][number]>)
    const answers = recipe === 'ppo' ? 6 : 12
    t.is(seen.length, 3 * answers)
    for (const { tokenIds, stopReason, text } of seen) {
      const end = tokenIds.indexOf(EOS)
      t.is(end, stopReason === 'stop' ? tokenIds.length - 1 : -1)
      t.true(tokenIds.length > 0 && (stopReason === 'stop' || tokenIds.length === 8))
      t.is(text.length, tokenIds.length - (stopReason === 'stop' ? 1 : 0))
    }
    t.true(
      seen.some(({ text, stopReason }) => text === '' && stopReason === 'stop'),
      'an answer of its end alone',
    )
    t.true(seen.some(({ stopReason }) => stopReason === 'length'))
    const steps = only(events as PolicyStepEvent[], 'step')
    const length = seen.slice(0, answers).reduce((sum, { tokenIds }) => sum + tokenIds.length, 0)
    close(t, steps[0]!.responseLength, length / answers, { absolute: 1e-12 })
    const samples = events.filter(({ type }) => type === 'sample')
    const second = seen.slice(answers, answers + 2)
    t.deepEqual(
      samples.map((sample) => ({ ...sample, kl: null })),
      second.map((sample, i) => ({
        type: 'sample',
        step: 2,
        prompt: sample.prompt,
        text: sample.text,
        finishReason: sample.stopReason,
        score: wished(second)[i]!,
        kl: null,
      })),
    )
    t.true(samples.every((sample) => Number.isFinite((sample as unknown as { kl: number }).kl)))
  })

  test(`${recipe}: NaN in the weights is an error before anything is learned`, async (t) => {
    await using model = await tinyPolicy(10)
    const { name } = (await model.parameters()).at(-1)!
    const { values } = await model.getParameter(name)
    await model.setParameter(name, values.fill(Number.NaN))
    const before = await weightsOf(model)
    const output = cleanFolder(t)
    await t.throwsAsync(start(model, { output }).finish(), {
      code: 'ERR_NON_FINITE',
      message: /non-finite logits: its weights are damaged/,
    })
    t.deepEqual(await weightsOf(model), before)
    t.false(existsSync(join(output, 'model')))
  })

  test(`${recipe}: updates that are not finite change nothing, and end the run after maxSkippedSteps`, async (t) => {
    await using model = await tinyPolicy(10)
    const before = await weightsOf(model)
    const output = cleanFolder(t)
    const steps: PolicyStepEvent[] = []
    // Finite scores whose squares are not.
    const reward = (samples: readonly RewardSample<Wish>[]) =>
      samples.map((_, i) => (i % 2 === 0 ? 1e200 : -1e200))
    const scale = { ppo: { kl: { target: 5, horizon: 10 } }, grpo: { scaleRewards: 'none' }, rloo: {} }[
      recipe
    ]
    await t.throwsAsync(
      async () => {
        const checkpoints = { everySteps: 1 }
        const run = start(model, { reward, ...scale, output, maxSkippedSteps: 2, iterations: 5, checkpoints })
        for await (const event of run) if (event.type === 'step') steps.push(event as PolicyStepEvent)
      },
      { code: 'ERR_NON_FINITE', message: /not finite in 2 iterations in a row/ },
    )
    const reason = recipe === 'ppo' ? 'nonFiniteLoss' : 'nonFiniteGradient'
    t.deepEqual(
      steps.map(({ skipped, updates }) => [skipped?.reason, updates]),
      [
        [reason, 0],
        [reason, 0],
      ],
    )
    t.is(steps[0]?.skipped?.rows.length, recipe === 'ppo' ? 6 : 12)
    t.true(steps.every(({ klCoef }) => klCoef === steps[0]?.klCoef))
    t.deepEqual(await weightsOf(model), before)
    t.false(existsSync(join(output, 'model')))
    t.deepEqual(readdirSync(join(output, 'checkpoints')), [])
  })

  test(`${recipe}: above the limit of the KL the run stops with a warning, saves, and a resume knows it`, async (t) => {
    const output = cleanFolder(t)
    const limit = recipe === 'ppo' ? { kl: { limit: 1e-3 } } : { klLimit: 1e-3 }
    const go = async (more: object = {}) => {
      await using model = await tinyPolicy(10)
      const run = start(model, { ...limit, iterations: 6, output, learningRate: 0.02, ...more })
      return await eventsOf<{ type: string }>(run)
    }
    const events = await go()
    const step = (events.filter(({ type }) => type === 'step') as PolicyStepEvent[]).at(-1)!
    t.true(step.kl! > 1e-3)
    t.true(step.step < 6)
    t.like(events.at(-1), { type: 'end', reason: 'klLimit', steps: step.step })
    const warning = events.find(({ type }) => type === 'warning')
    t.like(warning, { code: 'klExplodes', step: step.step })
    t.regex(JSON.stringify(warning), /above the limit of 0\.001: the run stops here; raise klCoef/)
    t.true(existsSync(join(output, 'model/model.safetensors')))
    const again = await go({ resume: true })
    t.deepEqual(
      again.map(({ type }) => type),
      ['start', 'end'],
    )
    t.like(again.at(-1), { reason: 'klLimit' })
  })
}

test('prompts that leave no room for a response are an error that names the row, or are dropped and counted', async (t) => {
  await using model = await tinyPolicy(10)
  const data = [...wishes, { prompt: 'ab'.repeat(21), wish: 'a' }]
  const options = { ...shared, model, data, reward: wished, iterations: 1 }
  await t.throwsAsync(ppo<Wish>(options).finish(), {
    code: 'ERR_DATA',
    message: /:8: a prompt of 42 tokens leaves no room for the response \(at most 40\)/,
  })
  const [begun] = only(await eventsOf(ppo<Wish>({ ...options, overflow: 'drop' })), 'start')
  t.like(begun?.report, { read: 8, rows: 7, dropped: { tooLong: 1 } })
  await t.throwsAsync(ppo<Wish>({ ...options, overflow: 'drop', data: data.slice(-1) }).finish(), {
    code: 'ERR_DATA',
    message: /no usable prompts: of 1 rows 0 are bad, 1 too long/,
  })
  await t.throwsAsync(grpo<Wish>({ ...options, maxNewTokens: 48 }).finish(), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /maxNewTokens 48 leaves no room for a prompt in the context of 48 of the model/,
  })
})

test('a prompt must leave room in the context of the reward model too', async (t) => {
  await using model = await tinyPolicy(10)
  await using small = await CausalLM.create({ ...policyConfig, max_position_embeddings: 12 }, { tokenizer })
  await using reward = await RewardModel.fromCausalLM(small)
  await t.throwsAsync(ppo({ ...shared, model, reward }).finish(), {
    code: 'ERR_DATA',
    message: /:4: a prompt of 5 tokens leaves no room for the response \(at most 4\)/,
  })
})

test('kl.target: the coefficient follows the KL of each iteration, by no more than a fifth', async (t) => {
  await using model = await tinyPolicy(10)
  const kl = { target: 0.02, horizon: 30 }
  const options = { ...shared, model, reward: wished, iterations: 5, learningRate: 0.01, kl }
  const steps = only(await eventsOf(ppo<Wish>(options)), 'step')
  let expected = 0.05
  const errors: number[] = []
  for (const step of steps) {
    close(t, step.klCoef!, expected, { relative: 1e-12 })
    const error = step.kl! / kl.target - 1
    errors.push(error)
    expected *= 1 + (Math.min(0.2, Math.max(-0.2, error)) * shared.batchSize) / kl.horizon
  }
  t.true(Math.min(...errors) < -0.2 && Math.max(...errors) > 0.2, `${errors}`)
})

test('what a reward function does with its samples, then or later, is its own affair', async (t) => {
  const run = async (reward: (samples: readonly RewardSample<Wish>[]) => number[]) => {
    await using model = await tinyPolicy(1)
    return numbersOf(await eventsOf(ppo<Wish>({ ...shared, model, reward: [{ reward }] })))
  }
  let kept: readonly RewardSample<Wish>[] = []
  const spoilt = await run((samples) => {
    const rewards = wished(samples)
    for (const { tokenIds, promptIds } of [...kept, ...samples]) {
      tokenIds.fill(EOS)
      promptIds.reverse()
    }
    kept = samples
    return rewards
  })
  t.deepEqual(spoilt, await run((samples) => wished(samples)))
})

test('a reward that fails ends the run with its name, and the model stays as it was', async (t) => {
  await using model = await tinyPolicy(10)
  const before = await weightsOf(model)
  const stuck = () => new Promise<number[]>(() => undefined)
  await t.throwsAsync(ppo({ ...shared, model, reward: stuck, rewardTimeoutMs: 10 }).finish(), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /^reward function stuck did not return within 10 ms/,
  })
  await t.throwsAsync(rloo({ ...shared, model, reward: () => [Number.NaN] }).finish(), {
    message: /returned 1 value for 24 samples/,
  })
  t.deepEqual(await weightsOf(model), before)
})

test('an adapter of another base is refused before it is trained', async (t) => {
  await using model = await tinyPolicy(10)
  const folder = cleanFolder(t)
  await using donor = await tinyPolicy(10)
  await donor.addAdapter('given', { rank: 2 })
  await donor.saveAdapter(folder)
  await model.loadAdapter('fits', folder)
  await using wider = await CausalLM.create({ ...policyConfig, hidden_size: 32 }, { tokenizer })
  await t.throwsAsync(wider.loadAdapter('strange', folder), { code: 'ERR_INVALID_FILE' })
  t.deepEqual(wider.adapters, [])
})

test('the columns of a row are typed in its samples', (t) => {
  interface Question {
    prompt: string
    answer: number
  }
  const options = (reward: PpoOptions<Question>['reward']) => reward
  t.is(typeof options((samples) => samples.map(({ row }) => row.answer.toFixed(0).length)), 'function')
  t.is(typeof options(async (samples) => samples.map(({ row }) => row.answer)), 'function')
  // @ts-expect-error the row has no such column
  t.is(typeof options((samples) => samples.map(({ row }) => row.wish)), 'function')
  // @ts-expect-error a text is no reward
  t.is(typeof options((samples) => samples.map(({ row }) => row.prompt)), 'function')
  const untyped: PpoOptions['reward'] = (samples) => samples.map(({ row }) => Number(row.answer))
  // @ts-expect-error without a type of rows a column is unknown
  const unknown: PpoOptions['reward'] = (samples) => samples.map(({ row }) => row.answer)
  t.deepEqual([typeof untyped, typeof unknown], ['function', 'function'])
})
