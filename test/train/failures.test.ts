import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { CausalLM } from '../../lib/models/causal-lm.js'
import { loadCheckpoint } from '../../lib/train/run/checkpoint.js'
import type { StepEvent, TrainEvent } from '../../lib/train/run/events.js'
import { sft } from '../../lib/train/sft.js'
import { cleanFolder } from '../helpers/scratch.js'
import { instructionRows, tinyModel, weightsOf } from '../helpers/tiny-training.js'

const base = { data: instructionRows(16), template: 'plain', maxLength: 64, batchSize: 4 } as const

test('NaN in the weights: every step is skipped, nothing changes, the third names the rows', async (t) => {
  await using model = await tinyModel()
  const name = (await model.parameters())[0]!.name
  const { values } = await model.getParameter(name)
  values.fill(Number.NaN)
  await model.setParameter(name, values)
  const before = await weightsOf(model)
  const output = cleanFolder(t)
  const events: TrainEvent[] = []
  const error = await t.throwsAsync(
    async () => {
      for await (const event of sft({ ...base, model, epochs: 3, output })) events.push(event)
    },
    { code: 'ERR_NON_FINITE', message: /not finite in 3 steps in a row .*rows .+/ },
  )
  t.regex(error?.message ?? '', /step 3/)
  const steps = events.filter((event): event is StepEvent => event.type === 'step')
  t.is(steps.length, 3)
  for (const { skipped } of steps) {
    t.is(skipped?.reason, 'nonFiniteLoss')
    t.is(skipped?.rows.length, 4)
  }
  t.deepEqual(await weightsOf(model), before)
  t.false(existsSync(join(output, 'model')))
})

test('a learning rate that explodes ends in an error, and the checkpoints before stay as they were', async (t) => {
  await using model = await tinyModel()
  const before = await weightsOf(model)
  const output = cleanFolder(t)
  // The first step of the warm-up has learning rate 0, the second one ruins the weights.
  const run = sft({
    ...base,
    model,
    epochs: 5,
    output,
    learningRate: 1e30,
    warmupSteps: 1,
    checkpoints: { everySteps: 1, keep: 2 },
  })
  await t.throwsAsync(run.finish(), { code: 'ERR_NON_FINITE', message: /lower the learning rate/ })
  t.deepEqual(readdirSync(join(output, 'checkpoints')).sort(), ['step-1', 'step-2'])
  t.notDeepEqual(await weightsOf(model), before)
  const weights = { save: async () => {}, load: (path: string) => model.loadWeights(path) }
  await loadCheckpoint(join(output, 'checkpoints/step-1'), { 'model.safetensors': weights })
  t.deepEqual(await weightsOf(model), before)
})

test('empty data, and data in which nothing is trainable, are errors before the first step', async (t) => {
  await using model = await tinyModel()
  const folder = cleanFolder(t)
  for (const data of [
    [],
    [{ messages: [{ role: 'user', content: 'only a question' }] }],
    [
      {
        messages: [
          { role: 'user', content: 'a' },
          { role: 'assistant', content: 'b', train: false },
        ],
      },
    ],
  ]) {
    await t.throwsAsync(sft({ ...base, data, model, output: folder }).finish(), { code: 'ERR_DATA' })
    t.false(existsSync(join(folder, 'metrics.jsonl')))
  }
  const path = `${folder}.jsonl`
  writeFileSync(path, '{"instruction": "a", "output": "b"}\n{"instruction": "a"}\n')
  await t.throwsAsync(sft({ ...base, data: path, model }).finish(), {
    code: 'ERR_DATA',
    message: /\.jsonl:2: output/,
  })
})

test('break leaves the model with its last whole step, ready for use', async (t) => {
  await using model = await tinyModel()
  const run = sft({ ...base, model, maxSteps: 20, learningRate: 1e-3 })
  for await (const event of run) if (event.type === 'step' && event.step === 3) break
  t.like(await run.finish(), { reason: 'stopped', steps: 3 })
  const again = await sft({ ...base, model, maxSteps: 2 }).finish()
  t.is(again.steps, 2)
})

test('early stopping restores the weights of the best evaluation', async (t) => {
  await using model = await tinyModel()
  const output = cleanFolder(t)
  // Overfitting 8 rows soon raises the loss of others.
  const run = sft({
    ...base,
    model,
    data: instructionRows(8),
    validation: instructionRows(8, 1000),
    learningRate: 1e-2,
    schedule: 'constant',
    epochs: 200,
    evaluation: { everySteps: 5 },
    earlyStopping: { patience: 3 },
    checkpoints: { everySteps: 1000 },
    output,
  })
  let best: Map<string, Float32Array> | null = null
  const losses: number[] = []
  for await (const event of run) {
    if (event.type !== 'evaluation') continue
    losses.push(event.loss)
    if (event.best) best = await weightsOf(model)
  }
  const end = await run.finish()
  t.is(end.reason, 'earlyStopping')
  t.is(end.bestLoss, Math.min(...losses))
  t.is(losses.length, losses.indexOf(end.bestLoss!) + 1 + 3)
  t.is(end.steps, (end.bestStep ?? 0) + 15)
  t.deepEqual(await weightsOf(model), best)
})

/** A run that overfits: the loss of its validation rows is lowest before the end. */
const overfit = {
  ...base,
  data: instructionRows(8),
  validation: instructionRows(8, 1000),
  learningRate: 1e-2,
  schedule: 'constant' as const,
  maxSteps: 40,
  evaluation: { everySteps: 5 },
}

test('a run with validation saves the weights of its lowest validation loss', async (t) => {
  await using model = await tinyModel()
  const output = cleanFolder(t)
  let best: Map<string, Float32Array> | null = null
  const run = sft({ ...overfit, model, output })
  for await (const event of run) if (event.type === 'evaluation' && event.best) best = await weightsOf(model)
  const end = await run.finish()
  t.is(end.reason, 'completed')
  t.true(end.bestStep! < 40, `best at step ${end.bestStep}`)
  t.is(end.modelStep, end.bestStep)
  await using saved = await CausalLM.load(end.model!)
  t.deepEqual(await weightsOf(saved), best)
})

test("a run with keep: 'last' saves the weights of its last step", async (t) => {
  await using model = await tinyModel()
  const end = await sft({ ...overfit, model, output: cleanFolder(t), keep: 'last' }).finish()
  t.true(end.bestStep! < 40)
  t.is(end.modelStep, 40)
  await using saved = await CausalLM.load(end.model!)
  t.deepEqual(await weightsOf(saved), await weightsOf(model))
})

test('a resume that keeps the best weights after one that did not says so and starts the search over', async (t) => {
  const output = cleanFolder(t)
  await using model = await tinyModel()
  await sft({ ...overfit, model, output, keep: 'last' }).finish()
  await using again = await tinyModel()
  const warnings: string[] = []
  const run = sft({ ...overfit, model: again, output, maxSteps: 50, resume: true })
  for await (const event of run) if (event.type === 'warning') warnings.push(event.message)
  const end = await run.finish()
  t.true(
    warnings.some((message) =>
      /weights of step \d+, the best so far.* are missing from the run folder or damaged/.test(message),
    ),
    warnings.join('\n'),
  )
  t.true(end.bestStep! > 40)
  t.is(end.modelStep, end.bestStep)
})
