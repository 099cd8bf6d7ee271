import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { CausalLM } from '../../lib/index.js'
import { ktoLoss } from '../../lib/losses/index.js'
import { dpo } from '../../lib/train/dpo.js'
import type { DpoOptions } from '../../lib/train/options/options.generated.js'
import type { KtoStepEvent } from '../../lib/train/run/events.js'
import { close } from '../helpers/close.js'
import { fixture } from '../helpers/fixtures.js'
import { follows, openTrace } from '../helpers/preference-runs.js'
import { eventsOf, lossesOf, numbersOf, stepsOf } from '../helpers/run.js'
import { cleanFolder } from '../helpers/scratch.js'
import { tinyModel, weightsOf } from '../helpers/tiny-training.js'

/** Desirable responses say yes; half of all are desirable. */
const labeled = (count: number, from = 0) =>
  Array.from({ length: count }, (_, i) => ({
    prompt: `Q${from + i}:`,
    completion: i % 2 === 0 ? ` yes${'!'.repeat(i % 3)}` : ` no ${from + i}`,
    label: i % 2 === 0,
  }))

const base = {
  loss: 'kto',
  data: labeled(12),
  template: 'none',
  maxLength: 64,
  learningRate: 1e-3,
  batchSize: 4,
} as const satisfies Partial<DpoOptions>
const LORA = { rank: 4 }

const ktoSteps = (events: readonly { type: string }[]) =>
  stepsOf(events as { type: 'step' }[]) as unknown as KtoStepEvent[]

test('ten steps with weights are those of torch, z included, whatever parts a step has', async (t) => {
  const { options, rows, kl, desirableWeight, undesirableWeight } = openTrace<{
    kl: number[]
    desirableWeight: number
    undesirableWeight: number
  }>('kto')
  t.true(kl.some((z) => z > 0.01) && kl.includes(0))
  for (const [batchSize, gradientAccumulation] of [
    [4, 1],
    [2, 2],
    [1, 4],
  ] as const) {
    await using model = await CausalLM.load(fixture('models/qwen3'))
    const given = { desirableWeight, undesirableWeight, batchSize, gradientAccumulation }
    const data = rows as unknown as DpoOptions['data']
    const run = () => dpo({ ...options, ...given, model, data, loss: 'kto', template: 'none' })
    const steps = await follows(t, 'kto', model, run)
    close(
      t,
      ktoSteps(steps).map((step) => step.kl),
      kl,
      { absolute: 1e-4 },
      'z',
    )
  }
})

test('however the reference is held, the first loss is a half and no reward is there yet', async (t) => {
  await using reference = await tinyModel()
  const losses: number[][] = []
  for (const more of [{}, { reference }, { lora: LORA }, { lora: LORA, reference }]) {
    await using model = await tinyModel()
    const steps = ktoSteps(await eventsOf(dpo({ ...base, ...more, model, epochs: 2 })))
    t.is(steps[0]!.loss, 0.5)
    t.like(steps[0], { kl: 0, desirableReward: 0, undesirableReward: 0, margin: 0 })
    losses.push(steps.map(({ loss }) => loss))
  }
  close(t, losses[1]!, losses[0]!, { absolute: 1e-5 })
  close(t, losses[3]!, losses[2]!, { absolute: 1e-5 })
  t.true(losses[0]!.at(-1)! < 0.5)
})

test('a step is the plain function of its log-probabilities and of z', async (t) => {
  const rows = labeled(4)
  await using model = await tinyModel(1)
  await using reference = await tinyModel(2)
  const sumsOf = async (of: CausalLM, pairs: [string, string][]) => {
    const texts = pairs.map(([prompt, completion]) => ({
      promptIds: of.tokenizer.encode(prompt),
      completionIds: Int32Array.from([...of.tokenizer.encode(completion), of.tokenizer.eosId!]),
    }))
    return Float64Array.from((await of.logProbs(texts)).map(({ sum }) => sum))
  }
  const own = rows.map(({ prompt, completion }): [string, string] => [prompt, completion])
  const others = rows.map(({ prompt }, i): [string, string] => [prompt, rows[(i + 1) % 4]!.completion])
  const [policy, compared] = [await sumsOf(model, others), await sumsOf(reference, others)]
  const kl = Math.max(0, policy.reduce((sum, value, i) => sum + value - compared[i]!, 0) / 4)
  const desirable = rows.map(({ label }) => label)
  const [logProbs, referenceLogProbs] = [await sumsOf(model, own), await sumsOf(reference, own)]
  const weights = { desirableWeight: 2, undesirableWeight: 0.5 }
  const { loss } = await ktoLoss({ logProbs, referenceLogProbs, desirable, kl, beta: 0.1, ...weights })
  const given = { ...weights, data: rows, shuffle: false, maxSteps: 1 }
  const [step] = ktoSteps(await eventsOf(dpo({ ...base, ...given, model, reference })))
  close(t, step!.loss, loss, { absolute: 1e-5 }, 'loss')
  close(t, step!.kl, kl, { absolute: 1e-4 }, 'z')
  const reward = (good: boolean) => {
    const of = desirable.flatMap((is, i) =>
      is === good ? [0.1 * (logProbs[i]! - referenceLogProbs[i]!)] : [],
    )
    return of.reduce((sum, value) => sum + value, 0) / of.length
  }
  close(t, step!.desirableReward, reward(true), { absolute: 1e-4 }, 'good')
  close(t, step!.undesirableReward, reward(false), { absolute: 1e-4 }, 'bad')
  close(t, step!.margin, reward(true) - reward(false), { absolute: 1e-4 }, 'margin')
})

test('a model overfits one batch', async (t) => {
  await using model = await tinyModel()
  const given = {
    data: labeled(4),
    beta: 0.5,
    maxSteps: 80,
    schedule: 'constant',
    learningRate: 5e-3,
  } as const
  const steps = ktoSteps(await eventsOf(dpo({ ...base, ...given, model })))
  t.true(steps.at(-1)!.loss < 0.1, `${steps.at(-1)!.loss}`)
  t.true(steps.at(-1)!.margin > 3)
})

test('an imbalance of desirable and undesirable responses is warned of once, with the weight that corrects it', async (t) => {
  await using model = await tinyModel()
  const rows = labeled(12)
  const few = rows.filter(({ label }, i) => !label || i < 5)
  const warningsOf = async (more: Partial<DpoOptions>) => {
    const events = await eventsOf(dpo({ ...base, model, maxSteps: 2, ...more }))
    return events.flatMap((event) => (event.type === 'warning' ? [event] : []))
  }
  t.deepEqual(await warningsOf({}), [])
  const warnings = await warningsOf({ data: few })
  t.is(warnings.length, 1)
  t.like(warnings[0], { code: 'ktoBalance', step: 0 })
  t.regex(warnings[0]!.message, /3 are desirable and 6 are undesirable.*set desirableWeight to about 2\.0/)
  t.deepEqual(await warningsOf({ data: few, desirableWeight: 2 }), [])
  t.deepEqual(await warningsOf({ data: few, undesirableWeight: 0.5 }), [])
})

test('stopped in any epoch and resumed, the same bits follow', async (t) => {
  for (const lora of [undefined, LORA]) {
    const options = {
      ...base,
      data: labeled(10),
      validation: labeled(4, 50),
      epochs: 2,
      ...(lora && { lora }),
    }
    const run = async (output: string, more: Partial<DpoOptions>, stopAt?: number) => {
      await using model = await tinyModel()
      const events = []
      const running = dpo({ ...options, model, output, ...more })
      for await (const event of running) {
        events.push(event)
        if (event.type === 'step' && event.step === stopAt) running.stop()
      }
      return numbersOf(events)
    }
    const whole = cleanFolder(t)
    const expected = await run(whole, {})
    const file = lora ? 'adapter/adapter_model.safetensors' : 'model/model.safetensors'
    for (const at of [1, 4]) {
      const output = cleanFolder(t)
      const before = await run(output, {}, at)
      t.deepEqual([...before, ...(await run(output, { resume: true }))], expected, `stopped at ${at}`)
      t.true(readFileSync(join(output, file)).equals(readFileSync(join(whole, file))))
    }
  }
})

test('8 responses in 1, 2 or 8 batches of one step are the same step', async (t) => {
  const runs: { losses: number[]; weights: Map<string, Float32Array> }[] = []
  for (const [batchSize, gradientAccumulation] of [
    [8, 1],
    [4, 2],
    [1, 8],
  ] as const) {
    await using model = await tinyModel()
    const given = { data: labeled(8), batchSize, gradientAccumulation, maxSteps: 3 }
    runs.push({
      losses: lossesOf(await eventsOf(dpo({ ...base, ...given, model }))),
      weights: await weightsOf(model),
    })
  }
  for (const other of runs.slice(1)) {
    close(t, other.losses, runs[0]!.losses, { absolute: 1e-5 }, 'loss')
    for (const [name, values] of runs[0]!.weights)
      close(t, other.weights.get(name)!, values, { absolute: 1e-5 }, name)
  }
})

test('a step of one response is refused, and bad rows are named', async (t) => {
  await using model = await tinyModel()
  await t.throwsAsync(dpo({ ...base, model, batchSize: 1 }).finish(), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /two or more rows in a step: raise batchSize or gradientAccumulation/,
  })
  const data = [...labeled(2), { prompt: 'P:', completion: 'a' }] as never
  await t.throwsAsync(dpo({ ...base, model, data }).finish(), { code: 'ERR_DATA', message: /^rows:3: label/ })
  const name = 'model.layers.1.mlp.down_proj.weight'
  const { values } = await model.getParameter(name)
  await model.setParameter(name, values.with(0, Number.NaN))
  await t.throwsAsync(dpo({ ...base, model }).finish(), {
    code: 'ERR_NON_FINITE',
    message: /3 steps in a row/,
  })
})
