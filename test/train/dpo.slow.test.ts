import { cpSync, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { AdamW, CausalLM } from '../../lib/index.js'
import { dpoLoss } from '../../lib/losses/index.js'
import { PAIR_LOSS_NAMES, pairLoss, pairLossOptions } from '../../lib/options/pair-losses.js'
import { dpo } from '../../lib/train/dpo.js'
import type { DpoOptions } from '../../lib/train/options/options.generated.js'
import type { DpoStepEvent } from '../../lib/train/run/events.js'
import { close } from '../helpers/close.js'
import { fixture, readJson } from '../helpers/fixtures.js'
import { follows, openTrace, rankings } from '../helpers/preference-runs.js'
import { eventsOf, lossesOf, numbersOf, stepsOf } from '../helpers/run.js'
import { cleanFolder } from '../helpers/scratch.js'
import { tinyModel, weightsOf } from '../helpers/tiny-training.js'

const base = {
  data: rankings(12),
  template: 'none',
  maxLength: 64,
  learningRate: 1e-3,
  batchSize: 4,
} as const satisfies Partial<DpoOptions>
const code = 'ERR_INVALID_ARGUMENT'
const LORA = { rank: 4 }

const pairTrace = (name: string) => {
  const { options, rows } = openTrace(name)
  return { ...options, data: rows as unknown as DpoOptions['data'], template: 'none', batchSize: 4 }
}

/** A model with an adapter that is not where adapters start. */
async function continued(): Promise<CausalLM> {
  const model = await tinyModel()
  await model.addAdapter('sft', { ...LORA, seed: 5 })
  const optimizer = new AdamW(model, { learningRate: 1e-2 })
  const inputIds = model.tokenizer.encode('Q1: yes')
  await model.backward(
    { inputIds, labels: inputIds, offsets: Int32Array.of(0, inputIds.length) },
    { kind: 'crossEntropy' },
  )
  await optimizer.step()
  await optimizer.dispose()
  return model
}

/** Summed log-probabilities of the responses of rows without a template. */
async function answersOf(
  model: CausalLM,
  rows: readonly { prompt: string; chosen: string; rejected: string }[],
) {
  const of = async (side: 'chosen' | 'rejected') => {
    const texts = rows.map((row) => ({
      promptIds: model.tokenizer.encode(row.prompt),
      completionIds: Int32Array.from([...model.tokenizer.encode(row[side]), model.tokenizer.eosId!]),
    }))
    const sums = (await model.logProbs(texts)).map(({ sum }) => sum)
    return {
      sums: Float64Array.from(sums),
      lengths: Int32Array.from(texts, (text) => text.completionIds.length),
    }
  }
  return { chosen: await of('chosen'), rejected: await of('rejected') }
}

test('ten steps of all weights are those of transformers and torch', async (t) => {
  await using model = await CausalLM.load(fixture('models/llama'))
  await follows(t, 'dpo', model, () => dpo({ ...pairTrace('dpo'), model }))
})

test('ten steps of an adapter that is trained on are those of PEFT and torch, in parts of a step too', async (t) => {
  for (const [batchSize, gradientAccumulation] of [
    [4, 1],
    [1, 4],
  ] as const) {
    await using model = await CausalLM.load(fixture('models/llama'))
    await model.loadAdapter('peft', fixture('adapters/llama'))
    const options = { ...pairTrace('dpo-lora'), batchSize, gradientAccumulation }
    await follows(t, 'dpo-lora', model, () => dpo({ ...options, model }))
    t.deepEqual(model.adapters, ['peft'])
  }
})

test('ten steps of cpo, its cross-entropy included, are those of transformers and torch, in parts of a step too', async (t) => {
  for (const [batchSize, gradientAccumulation] of [
    [4, 1],
    [1, 4],
  ] as const) {
    await using model = await CausalLM.load(fixture('models/llama'))
    const options = { ...pairTrace('cpo'), loss: 'cpo' as const, batchSize, gradientAccumulation }
    await follows(t, 'cpo', model, () => dpo({ ...options, model }))
  }
})

test('whatever holds the reference, the first loss is ln 2 bit for bit, and the next ones are the same', async (t) => {
  const trace = async (model: CausalLM, more: Partial<DpoOptions>) => {
    const steps = stepsOf(await eventsOf(dpo({ ...base, model, epochs: 2, ...more })))
    t.is(steps.length, 6)
    t.is(steps[0]!.loss, Math.LN2)
    t.like(steps[0], { margin: 0, chosenReward: 0, rejectedReward: 0, accuracy: 0 })
    t.true(steps.slice(1).every(({ loss }) => Math.abs(loss - Math.LN2) > 1e-4))
    return steps.map(({ loss }) => loss)
  }
  await using other = await tinyModel()
  // All weights: computed once and kept, or by a second model.
  await using kept = await tinyModel()
  await using separate = await tinyModel()
  const whole = await trace(kept, {})
  close(t, await trace(separate, { reference: other }), whole, { absolute: 1e-5 }, 'a separate model')
  // A new adapter: the base with it off, or a second model.
  await using off = await tinyModel()
  await using second = await tinyModel()
  const adapted = await trace(off, { lora: LORA })
  close(t, await trace(second, { lora: LORA, reference: other }), adapted, { absolute: 1e-5 }, 'adapter off')
  // An adapter that is trained on: a frozen copy of it, or a second model with it.
  await using copied = await continued()
  await using apart = await continued()
  await using start = await continued()
  const further = await trace(copied, {})
  close(t, await trace(apart, { reference: start }), further, { absolute: 1e-5 }, 'frozen copy')
  t.notDeepEqual(adapted, further)
  t.deepEqual(copied.adapters, ['sft'])
})

test('a second run compares with what the first one made, not with what was known before', async (t) => {
  for (const make of [tinyModel, continued]) {
    await using model = await make()
    for (let run = 0; run < 2; run++) {
      const steps = stepsOf(await eventsOf(dpo({ ...base, model })))
      t.is(steps[0]!.loss, Math.LN2)
      t.true(steps.at(-1)!.loss < Math.LN2 - 1e-3)
    }
  }
})

for (const loss of PAIR_LOSS_NAMES) {
  test(`${loss}: a step with its defaults is the plain function on the same log-probabilities`, async (t) => {
    const rows = rankings(4)
    await using model = await tinyModel(1)
    await using reference = await tinyModel(2)
    const alone = pairLoss(loss).referenceFree
    const { chosen, rejected } = await answersOf(model, rows)
    const compared = await answersOf(reference, rows)
    const expected = await dpoLoss({
      kind: loss,
      chosenLogProbs: chosen.sums,
      rejectedLogProbs: rejected.sums,
      ...(!alone && {
        chosenReferenceLogProbs: compared.chosen.sums,
        rejectedReferenceLogProbs: compared.rejected.sums,
      }),
      chosenLengths: chosen.lengths,
      rejectedLengths: rejected.lengths,
    })
    const given = {
      data: rows,
      loss,
      ...(!alone && { reference }),
      maxSteps: 20,
      schedule: 'constant' as const,
    }
    const steps = stepsOf(await eventsOf(dpo({ ...base, model, ...given }))) as DpoStepEvent[]
    const [first] = steps
    const within = { absolute: 1e-4, relative: 1e-5 }
    const sum = (values: ArrayLike<number>) => Array.from(values).reduce((total, value) => total + value, 0)
    const crossEntropy = -sum(chosen.sums) / sum(chosen.lengths)
    const { sftCoef } = pairLossOptions(loss, {})
    close(t, first!.loss, expected.loss + sftCoef * crossEntropy, within, 'loss')
    close(t, first!.chosenReward, expected.chosenReward, within, 'chosenReward')
    close(t, first!.rejectedReward, expected.rejectedReward, within, 'rejectedReward')
    close(t, first!.margin, expected.margin, within, 'margin')
    close(t, first!.accuracy, expected.accuracy, within, 'accuracy')
    close(t, first!.chosenLogProb, sum(chosen.sums) / 4, within, 'chosenLogProb')
    close(t, first!.rejectedLogProb, sum(rejected.sums) / 4, within, 'rejectedLogProb')
    t.true(steps.at(-1)!.loss < first!.loss, `${steps.at(-1)!.loss} after ${first!.loss}`)
  })
}

test('a model overfits one batch, by all weights and by an adapter', async (t) => {
  for (const lora of [undefined, { rank: 8 }]) {
    await using model = await tinyModel()
    const given = {
      data: rankings(4),
      beta: 0.5,
      maxSteps: 60,
      schedule: 'constant',
      learningRate: 5e-3,
      ...(lora && { lora }),
    } as const
    const steps = stepsOf(await eventsOf(dpo({ ...base, model, ...given }))) as DpoStepEvent[]
    const last = steps.at(-1)!
    t.true(last.loss < 0.05, `${last.loss}`)
    t.is(last.accuracy, 1)
    t.true(last.margin > 3 && last.chosenReward > last.rejectedReward)
  }
})

test('8 pairs in 1, 2 or 4 batches of one step are the same step, cross-entropy of the chosen responses included', async (t) => {
  const data = [
    ...rankings(6),
    { prompt: 'R:', responses: [' 1', ' 22', ' 3'] },
    { prompt: 'S:', responses: [' long', ' a'] },
  ]
  const runs: { losses: number[]; evaluation: number; weights: Map<string, Float32Array> }[] = []
  for (const [batchSize, gradientAccumulation] of [
    [8, 1],
    [4, 2],
    [2, 4],
  ] as const) {
    await using model = await tinyModel()
    const batching = { batchSize, gradientAccumulation, maxSteps: 3, sftCoef: 0.5, validation: data }
    const events = await eventsOf(dpo({ ...base, model, data, ...batching }))
    const evaluation = events.findLast((event) => event.type === 'evaluation')!.loss
    runs.push({ losses: lossesOf(events), evaluation, weights: await weightsOf(model) })
  }
  for (const other of runs.slice(1)) {
    close(t, other.losses, runs[0]!.losses, { absolute: 1e-5 }, 'loss')
    close(t, other.evaluation, runs[0]!.evaluation, { absolute: 1e-5 }, 'validation loss')
    for (const [name, values] of runs[0]!.weights)
      close(t, other.weights.get(name)!, values, { absolute: 1e-5 }, name)
  }
})

test('sftCoef adds the mean cross-entropy of the chosen responses, token by token, in training and validation', async (t) => {
  const rows = rankings(4)
  await using model = await tinyModel()
  const { sums, lengths } = (await answersOf(model, rows)).chosen
  const total = (values: ArrayLike<number>) => Array.from(values).reduce((sum, value) => sum + value, 0)
  const given = { data: rows, validation: rows, sftCoef: 0.5, maxSteps: 1, batchSize: 3, learningRate: 1e-12 }
  const events = await eventsOf(dpo({ ...base, ...given, gradientAccumulation: 2, model }))
  const expected = Math.LN2 - (0.5 * total(sums)) / total(lengths)
  close(t, lossesOf(events), [expected], { absolute: 1e-5 })
  close(t, events.find((event) => event.type === 'evaluation')!.loss, expected, { absolute: 1e-5 })
})

test('pairs that are alike or too long are dropped and counted', async (t) => {
  await using model = await tinyModel()
  const data = [
    ...rankings(3),
    { prompt: 'P:', chosen: ' same', rejected: ' same' },
    { prompt: 'P:', chosen: ' a', rejected: ' b'.repeat(40) },
    { prompt: 'P'.repeat(80), chosen: ' a', rejected: ' b' },
  ]
  const [start] = await eventsOf(dpo({ ...base, model, data, maxSteps: 1 }))
  t.like(start, {
    report: { read: 6, judgements: 3, pairs: 3, identical: 1, brokenPairs: 2, dropped: { tooLong: 3 } },
  })
})

for (const [how, make, lora] of [
  ['all weights', tinyModel, undefined],
  ['a new adapter', tinyModel, LORA],
  ['an adapter that is trained on', continued, undefined],
] as const) {
  test(`stopped in any epoch and resumed, what is known of the reference included: ${how}`, async (t) => {
    // Lengths apart, so that a response is computed beside other numbers of tokens in each epoch.
    const data = rankings(11).map((row, i) => ({
      ...row,
      chosen: row.chosen + '!'.repeat(i % 4 === 3 ? 90 : 0),
    }))
    const options = { ...base, data, maxLength: 128, validation: rankings(3, 50), epochs: 2, sftCoef: 0.1 }
    const run = async (output: string, more: Partial<DpoOptions>, stopAt?: number) => {
      await using model = await make()
      const events = []
      const running = dpo({ ...options, model, output, ...(lora && { lora }), ...more })
      for await (const event of running) {
        events.push(event)
        if (event.type === 'step' && event.step === stopAt) running.stop()
      }
      return numbersOf(events)
    }
    const file = how === 'all weights' ? 'model/model.safetensors' : 'adapter/adapter_model.safetensors'
    const whole = cleanFolder(t)
    const expected = await run(whole, {})
    t.is(expected.filter(({ type }) => type === 'step').length, 6)
    for (const at of [2, 4]) {
      const output = cleanFolder(t)
      const before = await run(output, {}, at)
      t.deepEqual([...before, ...(await run(output, { resume: true }))], expected, `stopped at ${at}`)
      t.true(readFileSync(join(output, file)).equals(readFileSync(join(whole, file))))
    }
  })
}

test('a resume with another reference than the run began with is refused, and nothing is changed', async (t) => {
  const output = cleanFolder(t)
  await using model = await tinyModel()
  const run = dpo({ ...base, model, output, epochs: 2 })
  for await (const event of run) if (event.type === 'step' && event.step === 4) run.stop()
  const before = await weightsOf(model)
  // The model in memory has been trained by now.
  const resume = (more: Partial<DpoOptions>) =>
    dpo({ ...base, model, output, epochs: 2, resume: true, ...more }).finish()
  await t.throwsAsync(resume({}), {
    code,
    message: /the reference, or the base under the adapter, is another model/,
  })
  t.deepEqual(await weightsOf(model), before)
  await using other = await tinyModel(7)
  const ofOther = await weightsOf(other)
  await t.throwsAsync(resume({ model: other }), {
    code,
    message: /the reference, or the base under the adapter, is another model/,
  })
  t.deepEqual(await weightsOf(other), ofOther)
  await using reference = await tinyModel()
  await t.throwsAsync(resume({ reference }), {
    code,
    message: /option reference was not given and is "\(model\)"/,
  })
  await using fresh = await tinyModel()
  t.like(await resume({ model: fresh }), { reason: 'completed', steps: 6 })
})

test('a reference that would be trained too, or is of another kind, is refused', async (t) => {
  await using model = await tinyModel()
  await using view = await model.view()
  await using other = await CausalLM.load(fixture('models/llama'))
  const refused = async (more: Partial<DpoOptions>, message: RegExp) =>
    t.throwsAsync(dpo({ ...base, model, ...more }).finish(), { code, message })
  await refused({ reference: model }, /shares the weights that are trained/)
  await refused({ reference: view }, /shares the weights that are trained/)
  await refused({ reference: other }, /vocabulary of 67 tokens, the model one of 257/)
  // With an adapter the base stays as it is.
  const [first] = stepsOf(await eventsOf(dpo({ ...base, model, reference: view, lora: LORA, maxSteps: 1 })))
  t.is(first!.loss, Math.LN2)
})

test('options without an effect are refused', async (t) => {
  await using model = await tinyModel()
  const refused = (more: object, message: RegExp) =>
    t.throws(() => dpo({ ...base, model, ...more }), { code, message }, JSON.stringify(more))
  refused(
    { loss: 'simpo', reference: model },
    /reference has no effect with losses simpo, orpo and cpo, which/,
  )
  refused({ lambda: 1 }, /lambda has an effect only with loss dpop/)
  refused({ loss: 'dpop', lambda: -1 }, /lambda/)
  refused({ labelSmoothing: 0.1 }, /labelSmoothing has an effect only with losses robust, cdpo and exo/)
  refused({ gamma: 1 }, /gamma has an effect only with loss simpo/)
  refused({ desirableWeight: 2 }, /desirableWeight has an effect only with loss kto/)
  refused({ loss: 'kto', sftCoef: 1 }, /sftCoef has no effect with loss kto/)
  refused({ lora: { dropout: 0.1 } }, /unknown option lora\.dropout/)
  refused({ loss: 'dpo' }, /loss/)
  refused({ beta: 0 }, /beta/)
  refused({ samples: { prompts: ['a'] } }, /unknown option samples/)
})

test('bad rows are named, an empty response is one, and a model of numbers that are none is found', async (t) => {
  await using model = await tinyModel()
  const row = (more: object) => dpo({ ...base, model, data: [...rankings(2), more] as never }).finish()
  await t.throwsAsync(row({ prompt: 'P:', rejected: 'a' }), {
    code: 'ERR_DATA',
    message: /^rows:3: chosen is missing/,
  })
  await t.throwsAsync(row({ chosen: 'a', rejected: 'b' }), {
    code: 'ERR_DATA',
    message: /^rows:3: prompt is missing/,
  })
  await t.throwsAsync(dpo({ ...base, model, maxLength: 4 }).finish(), {
    code: 'ERR_DATA',
    message: /too long \(maxLength 4\)/,
  })
  await t.throwsAsync(dpo({ ...base, model, maxLength: 1000 }).finish(), {
    code,
    message: /exceeds the context length of the model, 256/,
  })
  const data = [{ prompt: 'P:', chosen: ' yes', rejected: '' }]
  const [start] = await eventsOf(dpo({ ...base, model, data, maxSteps: 1 }))
  t.like(start, { report: { pairs: 1 } })
  const name = 'model.layers.0.mlp.up_proj.weight'
  const { values } = await model.getParameter(name)
  await model.setParameter(name, values.with(0, Number.NaN))
  for (const loss of ['sigmoid', 'hinge', 'orpo'] as const)
    await t.throwsAsync(dpo({ ...base, model, loss }).finish(), {
      code: 'ERR_NON_FINITE',
      message: /loss was not finite in 3 steps.*rows:\d+/,
    })
})

test('a folder that holds another run is refused before the reference is asked for anything', async (t) => {
  const output = cleanFolder(t)
  cpSync(fixture('models/llama'), join(output, 'model'), { recursive: true })
  await using model = await tinyModel()
  await t.throwsAsync(dpo({ ...base, model, output }).finish(), { code, message: /holds another run/ })
  t.false(existsSync(join(output, 'config.json')))
  const clean = cleanFolder(t)
  await using reference = await tinyModel()
  await dpo({ ...base, model, reference, output: clean, maxSteps: 1 }).finish()
  // The models of a run are not written into its config.
  const { options } = readJson<{ options: Record<string, unknown> }>(join(clean, 'config.json'))
  t.like(options, { reference: '(model)', data: '(rows)', loss: 'sigmoid', template: 'none' })
})
