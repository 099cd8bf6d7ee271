import { cpSync, existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { SftOptions } from '../../lib/train/options/options.generated.js'
import type { TrainEvent } from '../../lib/train/run/events.js'
import { sft } from '../../lib/train/sft.js'
import { readManifestOf, resealManifest } from '../helpers/manifests.js'
import { cleanFolder } from '../helpers/scratch.js'
import { instructionRows, tinyModel, weightsOf } from '../helpers/tiny-training.js'

/** 22 rows in batches of 3, two a step: 8 batches and 4 steps an epoch, the last one short. */
const base = {
  data: instructionRows(22),
  validation: instructionRows(4, 90),
  template: 'plain',
  maxLength: 64,
  learningRate: 3e-3,
  batchSize: 3,
  gradientAccumulation: 2,
  epochs: 3,
  seed: 3,
} satisfies Partial<SftOptions>

const kept = (event: TrainEvent) => {
  if (event.type === 'step') return { ...event, tokensPerSecond: 0 }
  if (event.type === 'evaluation' || event.type === 'epoch') return event
  return null
}
const numbersOf = (events: TrainEvent[]) => events.map(kept).filter((event) => event !== null)

async function whole() {
  await using model = await tinyModel()
  const events: TrainEvent[] = []
  for await (const event of sft({ ...base, model })) events.push(event)
  return { numbers: numbersOf(events), weights: await weightsOf(model) }
}

async function resumed(output: string) {
  await using model = await tinyModel()
  const events: TrainEvent[] = []
  for await (const event of sft({ ...base, model, output, resume: true })) events.push(event)
  return { numbers: numbersOf(events), weights: await weightsOf(model) }
}

test('stopped anywhere and resumed: the later losses and the final weights are the same bits', async (t) => {
  const expected = await whole()
  t.is(expected.numbers.filter(({ type }) => type === 'step').length, 12)
  // 1 and 6: inside an epoch; 4 and 8: at the edge of one; 11: the last but one.
  for (const at of [1, 4, 6, 8, 11]) {
    const output = cleanFolder(t)
    const before: TrainEvent[] = []
    {
      await using model = await tinyModel()
      const run = sft({ ...base, model, output })
      for await (const event of run) {
        before.push(event)
        if (event.type === 'step' && event.step === at) run.stop()
      }
      t.like(before.at(-1), { type: 'end', reason: 'stopped', steps: at })
    }
    const after = await resumed(output)
    t.deepEqual([...numbersOf(before), ...after.numbers], expected.numbers, `stopped at ${at}`)
    t.deepEqual(after.weights, expected.weights)
    const metrics = readFileSync(join(output, 'metrics.jsonl'), 'utf8').trim().split('\n')
    t.deepEqual(numbersOf(metrics.map((line) => JSON.parse(line))), expected.numbers)
  }
})

test('aborted in the middle of an accumulation: the last whole step stays, and a resume is the same run', async (t) => {
  const expected = await whole()
  const output = cleanFolder(t)
  const abort = new AbortController()
  {
    await using model = await tinyModel()
    const events = sft({ ...base, model, output, checkpoints: { everySteps: 1 }, signal: abort.signal })[
      Symbol.asyncIterator
    ]()
    for (;;) {
      const { value } = await events.next()
      if (value?.type === 'checkpoint' && value.step === 5) break
    }
    const before = await weightsOf(model)
    const step = events.next()
    setImmediate(() => abort.abort('enough'))
    const error = await t.throwsAsync(step)
    t.is(error?.name, 'AbortError')
    t.is(error?.cause, 'enough')
    t.deepEqual(await weightsOf(model), before)
  }
  const after = await resumed(output)
  t.deepEqual(after.numbers, expected.numbers.slice(-after.numbers.length))
  t.is(after.numbers.filter(({ type }) => type === 'step').length, 7)
  t.deepEqual(after.weights, expected.weights)
})

test('save() between a step, its epoch and its evaluation: the resume makes what was to follow', async (t) => {
  const expected = await whole()
  for (const where of ['step', 'epoch'] as const) {
    const output = cleanFolder(t)
    {
      await using model = await tinyModel()
      const run = sft({ ...base, model, output })
      for await (const event of run) {
        if (event.type === where && event.step === 4) {
          t.true(existsSync(await run.save()))
          break
        }
      }
    }
    const after = await resumed(output)
    t.deepEqual(after.weights, expected.weights)
    // Each event once, in its order.
    const metrics = readFileSync(join(output, 'metrics.jsonl'), 'utf8').trim().split('\n')
    t.deepEqual(numbersOf(metrics.map((line) => JSON.parse(line))), expected.numbers, where)
    t.deepEqual(after.numbers, expected.numbers.slice(-after.numbers.length))
  }
})

test('a run that has ended is not trained again by a resume', async (t) => {
  const output = cleanFolder(t)
  {
    await using model = await tinyModel()
    await sft({ ...base, model, epochs: 1, output }).finish()
  }
  await using model = await tinyModel()
  const events: TrainEvent[] = []
  for await (const event of sft({ ...base, model, epochs: 1, output, resume: true })) events.push(event)
  t.deepEqual(
    events.map(({ type }) => type),
    ['start', 'end'],
  )
})

test('a longer run is warned that its learning rate is another from there on', async (t) => {
  const output = cleanFolder(t)
  await using model = await tinyModel()
  await sft({ ...base, model, epochs: 1, output }).finish()
  const events: TrainEvent[] = []
  for await (const event of sft({ ...base, model, epochs: 2, output, resume: true })) events.push(event)
  t.like(events[1], { type: 'warning', step: 4 })
  t.regex(JSON.stringify(events[1]), /had 4 steps in total and has 8 now/)
  t.is(events.filter(({ type }) => type === 'step').length, 4)
})

test('a run that moved to a machine with other bits is resumed there once more', async (t) => {
  const output = cleanFolder(t)
  const until = async (step: number, resume: boolean) => {
    await using model = await tinyModel()
    const run = sft({ ...base, model, output, resume, lora: { rank: 2 } })
    const events: TrainEvent[] = []
    for await (const event of run) {
      events.push(event)
      if (event.type === 'step' && event.step === step) run.stop()
    }
    return events.filter(({ type }) => type === 'warning').length
  }
  t.is(await until(2, false), 0)
  // As another machine would have left it: what the frozen base says differs in its last bits.
  const path = join(output, 'checkpoints', 'step-2')
  const manifest = readManifestOf(path)
  manifest.state.environment.threads += 1
  manifest.state.reference *= 1 + 1e-6
  resealManifest(path, manifest)
  t.is(await until(4, true), 1)
  t.is(await until(6, true), 0)
})

test('a folder of another run, and other options on resume, are refused; overwrite replaces', async (t) => {
  const output = cleanFolder(t)
  await using model = await tinyModel()
  await sft({ ...base, model, maxSteps: 2, epochs: undefined, output }).finish()
  const files = () => readdirSync(output, { recursive: true }).sort()
  const there = files()
  const again = { ...base, model, maxSteps: 2, epochs: undefined, output }
  await t.throwsAsync(sft(again).finish(), { code: 'ERR_INVALID_ARGUMENT', message: /holds another run/ })
  await t.throwsAsync(sft({ ...again, resume: true, learningRate: 1e-4 }).finish(), {
    message: /option learningRate was 0\.003 and is 0\.0001 now/,
  })
  await t.throwsAsync(sft({ ...again, resume: true, data: instructionRows(21) }).finish(), {
    message: /content of data/,
  })
  t.deepEqual(files(), there)
  await sft({ ...again, maxSteps: 1, overwrite: true }).finish()
  t.deepEqual(
    readdirSync(join(output, 'checkpoints')).filter((name) => name.startsWith('step-')),
    ['step-1'],
  )
  const foreign = cleanFolder(t)
  cpSync(join(output, 'model'), foreign, { recursive: true })
  await t.throwsAsync(sft({ ...again, output: foreign, overwrite: true }).finish(), {
    message: /is not a run folder/,
  })
  t.true(existsSync(join(foreign, 'model.safetensors')))
})
