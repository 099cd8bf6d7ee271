import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { sft } from '../../lib/train/sft.js'
import { eventsOf, lossesOf, only, stepsOf } from '../helpers/run.js'
import { cleanFolder } from '../helpers/scratch.js'
import { instructionRows, tinyModel, weightsOf } from '../helpers/tiny-training.js'

const base = { data: instructionRows(24), template: 'plain', maxLength: 64, learningRate: 1e-3 } as const

test('the same seed twice gives the same bits, another seed gives others', async (t) => {
  const trace = async (seed: number) => {
    await using model = await tinyModel()
    const events = await eventsOf(sft({ ...base, model, batchSize: 4, maxSteps: 10, seed }))
    return {
      losses: lossesOf(events),
      norms: stepsOf(events).map(({ gradNorm }) => gradNorm),
      weights: await weightsOf(model),
    }
  }
  const first = await trace(1)
  t.is(first.losses.length, 10)
  t.deepEqual(await trace(1), first)
  t.notDeepEqual((await trace(2)).losses, first.losses)
})

test('a template that was named once is the model’s from then on', async (t) => {
  await using model = await tinyModel()
  await sft({ ...base, model, template: 'alpaca', maxLength: 256, maxSteps: 1 }).finish()
  const output = cleanFolder(t)
  const { template: _, ...untold } = base
  await sft({ ...untold, model, maxLength: 256, maxSteps: 1, output }).finish()
  t.is(JSON.parse(readFileSync(join(output, 'config.json'), 'utf8')).options.template, 'alpaca')
})

test('a model overfits one batch', async (t) => {
  await using model = await tinyModel()
  const run = sft({
    ...base,
    model,
    data: instructionRows(4),
    batchSize: 4,
    maxSteps: 150,
    learningRate: 5e-3,
    schedule: 'constant',
  })
  const events = await eventsOf(run)
  const trace = lossesOf(events)
  t.true(trace[0]! > 2, `${trace[0]}`)
  t.true(trace.at(-1)! < 0.05, `${trace.at(-1)}`)
  t.true(stepsOf(events).at(-1)!.tokenAccuracy === 1)
})

test('8 rows in 1, 4 or 8 batches of one step are the same step', async (t) => {
  const runs: { losses: number[]; weights: Map<string, Float32Array> }[] = []
  for (const [batchSize, gradientAccumulation] of [
    [8, 1],
    [2, 4],
    [1, 8],
  ] as const) {
    await using model = await tinyModel()
    const events = await eventsOf(
      sft({ ...base, model, batchSize, gradientAccumulation, maxSteps: 3, shuffle: false }),
    )
    runs.push({ losses: lossesOf(events), weights: await weightsOf(model) })
  }
  for (const other of runs.slice(1)) {
    for (const [i, loss] of runs[0]!.losses.entries()) t.true(Math.abs(loss - other.losses[i]!) < 1e-5)
    for (const [name, values] of runs[0]!.weights) {
      const there = other.weights.get(name)!
      t.true(
        values.every((value, i) => Math.abs(value - there[i]!) < 1e-5),
        name,
      )
    }
  }
})

test('events come in order, with what they promise', async (t) => {
  await using model = await tinyModel()
  const output = cleanFolder(t)
  const run = sft({
    ...base,
    model,
    batchSize: 5,
    epochs: 2,
    validation: { fraction: 0.25 },
    samples: { prompts: ['a'], maxNewTokens: 3 },
    seed: 4,
    output,
  })
  const events = await eventsOf(run)
  const order = events.map(({ type }) => type).join(' ')
  const epoch = 'step step step step epoch evaluation sample checkpoint'
  t.is(order, `start ${epoch} ${epoch} end`)
  const [start] = events
  t.like(start, { type: 'start', step: 0, totalSteps: 8, epochs: 2 })
  for (const step of only(events, 'step')) {
    for (const name of [
      'loss',
      'gradNorm',
      'learningRate',
      'tokens',
      'trainTokens',
      'tokensPerSecond',
      'entropy',
    ] as const) {
      t.true(Number.isFinite(step[name]) && step[name] > 0, `${name} ${step[name]}`)
    }
    t.true(step.trainTokens < step.tokens)
  }
  t.deepEqual(
    stepsOf(events).map(({ epoch }) => epoch),
    [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2],
  )
  const evaluations = events.filter((event) => event.type === 'evaluation')
  for (const { loss, perplexity } of evaluations) t.is(perplexity, Math.exp(loss))
  t.like(await run.finish(), {
    reason: 'completed',
    steps: 8,
    bestLoss: Math.min(...evaluations.map(({ loss }) => loss)),
  })
})
