import { writeFileSync } from 'node:fs'
import test from 'ava'
import { CausalLM } from '../../lib/models/causal-lm.js'
import { pretrain } from '../../lib/train/pretrain.js'
import { sft } from '../../lib/train/sft.js'
import { eventsOf, stepsOf } from '../helpers/run.js'
import { cleanFolder } from '../helpers/scratch.js'
import { instructionRows, tinyModel, weightsOf } from '../helpers/tiny-training.js'

const texts = Array.from({ length: 20 }, (_, i) => ({ text: `Line ${i} says ${'abc '.repeat(i % 4)}end.` }))

test('plain text: every token but the first of a sequence is trained, and the loss falls', async (t) => {
  await using model = await tinyModel()
  const events = await eventsOf(
    pretrain({ model, data: texts, batchSize: 5, epochs: 30, learningRate: 5e-3 }),
  )
  const steps = stepsOf(events)
  t.is(steps.length, 120)
  for (const { tokens, trainTokens } of steps) t.is(trainTokens, tokens - 5)
  t.true(steps[0]!.loss > 4 && steps.at(-1)!.loss < 1, `${steps[0]!.loss} ${steps.at(-1)!.loss}`)
  t.deepEqual(
    steps.slice(0, 2).map(({ learningRate }) => learningRate),
    [5e-3, 5e-3 * 0.5 * (1 + Math.cos(Math.PI / 120))],
  )
})

test('the same seed gives the same ten steps, stopped and resumed too', async (t) => {
  const options = { data: texts, batchTokens: 128, maxSteps: 10, learningRate: 1e-3, warmupSteps: 2, seed: 5 }
  const run = async (output: string, more: object = {}) => {
    await using model = await tinyModel()
    const run = pretrain({ ...options, ...more, model, output })
    const losses: number[] = []
    for await (const event of run) {
      if (event.type !== 'step') continue
      losses.push(event.loss)
      if (event.step === 4 && !('resume' in more)) run.stop()
    }
    return { losses, weights: await weightsOf(model) }
  }
  await using model = await tinyModel()
  const whole = stepsOf(await eventsOf(pretrain({ ...options, model })))
  t.is(whole.length, 10)
  for (const { tokens } of whole) t.true(tokens <= 128)
  t.is(whole[0]!.learningRate, 0)
  const output = cleanFolder(t)
  const first = await run(output)
  const second = await run(output, { resume: true })
  t.deepEqual(
    [...first.losses, ...second.losses],
    whole.map(({ loss }) => loss),
  )
  t.deepEqual(second.weights, await weightsOf(model))
})

test('a step in which no row has weight changes nothing, and a warning says so', async (t) => {
  await using model = await tinyModel()
  const before = await weightsOf(model)
  const data = instructionRows(4).map((row) => ({ ...row, weight: 0 }))
  const events = await eventsOf(
    sft({ model, data, template: 'plain', batchSize: 2, epochs: 1, learningRate: 1 }),
  )
  t.deepEqual(
    events.map(({ type }) => type),
    ['start', 'step', 'warning', 'step', 'warning', 'epoch', 'end'],
  )
  for (const { skipped, loss } of stepsOf(events)) {
    t.is(skipped?.reason, 'noLabels')
    t.is(loss, 0)
  }
  t.deepEqual(await weightsOf(model), before)
})

test('row weights weigh the loss, and two sources mix by weight', async (t) => {
  await using model = await tinyModel()
  const losses = async (data: Parameters<typeof sft>[0]['data']) => {
    const run = sft({
      model,
      data,
      template: 'plain',
      batchSize: 64,
      shuffle: false,
      maxSteps: 1,
      learningRate: 1e-30,
    })
    return stepsOf(await eventsOf(run))[0]!
  }
  const [a, b] = instructionRows(2) as [object, object]
  const first = await losses([a] as never)
  const second = await losses([b] as never)
  const both = await losses([{ ...a, weight: 3 }, b] as never)
  const mean =
    (3 * first.loss * first.trainTokens + second.loss * second.trainTokens) /
    (3 * first.trainTokens + second.trainTokens)
  t.true(Math.abs(both.loss - mean) < 1e-6, `${both.loss} ${mean}`)
  const mixed = await losses([
    { data: instructionRows(8), weight: 1 },
    { data: instructionRows(8, 50), weight: 0.5 },
  ] as never)
  const [x, y] = [await losses(instructionRows(8)), await losses(instructionRows(8, 50))]
  t.true(mixed.tokens > x.tokens && mixed.tokens < x.tokens + y.tokens)
})

test('the saved model carries the template, and answers as it was trained', async (t) => {
  await using model = await tinyModel()
  const output = cleanFolder(t)
  const samples = { prompts: ['2+2=?'], maxNewTokens: 6 }
  const data = [{ instruction: '2+2=?', output: '4' }]
  const run = sft({ model, data, epochs: 60, learningRate: 1e-2, schedule: 'constant', samples, output })
  const events = await eventsOf(run)
  const last = events.filter((event) => event.type === 'sample').at(-1)
  t.like(last, { prompt: '2+2=?', text: ' 4', finishReason: 'stop' })
  const end = await run.finish()
  await using again = await CausalLM.load(end.model!)
  t.truthy(again.chatTemplate)
  t.deepEqual(await weightsOf(again), await weightsOf(model))
})

test('a file larger than one read, and a signal raised before the start', async (t) => {
  await using model = await tinyModel()
  const path = `${cleanFolder(t)}.jsonl`
  writeFileSync(path, texts.map((row) => JSON.stringify(row)).join('\n'))
  const reason = new Error('not now')
  const run = pretrain({ model, data: path, signal: AbortSignal.abort(reason) })
  const error = await t.throwsAsync(run.finish(), { name: 'AbortError' })
  t.is(error?.cause, reason)
})
