import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { temporaryName } from '../../lib/files/temporary.js'
import { CausalLM } from '../../lib/models/causal-lm.js'
import { ppo } from '../../lib/train/ppo.js'
import type { TrainEvent, WarningEvent } from '../../lib/train/run/events.js'
import { sft } from '../../lib/train/sft.js'
import { close } from '../helpers/close.js'
import { fixture, readJson } from '../helpers/fixtures.js'
import { readManifestOf, resealManifest } from '../helpers/manifests.js'
import { eventsOf, lossesOf, only } from '../helpers/run.js'
import { cleanFolder } from '../helpers/scratch.js'
import { wished, wishes } from '../helpers/tiny-policy.js'
import { instructionRows, tinyModel, weightsOf } from '../helpers/tiny-training.js'

const base = {
  data: instructionRows(16),
  template: 'plain',
  maxLength: 64,
  batchSize: 4,
  maxSteps: 6,
  learningRate: 1e-3,
  checkpoints: { everySteps: 1, keep: 3 },
} as const

const warningsOf = (events: readonly TrainEvent[]) =>
  (events as readonly { type: string }[]).filter((event): event is WarningEvent => event.type === 'warning')

/** A run that was killed after the checkpoint of step 4 (with 3 and 2 kept), and what the whole run gives. */
async function killedRun(output: string) {
  await using model = await tinyModel()
  for await (const event of sft({ ...base, model, output }))
    if (event.type === 'checkpoint' && event.step === 4) break
  await using other = await tinyModel()
  const { checkpoints: _, ...options } = base
  const losses = lossesOf(await eventsOf(sft({ ...options, model: other })))
  return { losses, weights: await weightsOf(other) }
}

test('what a kill leaves before the first checkpoint can be started again, with and without resume', async (t) => {
  await using model = await tinyModel()
  const states: Record<string, (output: string) => void> = {
    'a stale lock': (output) => writeFileSync(join(output, '.lock'), ''),
    'an empty checkpoints/, as 0.1.0 left it': (output) => {
      mkdirSync(join(output, 'checkpoints'))
      writeFileSync(join(output, '.config.json.0123456789ab.tmp'), '{')
      writeFileSync(join(output, '.lock.0123456789ab'), '')
    },
    'a checkpoint on its way': (output) =>
      mkdirSync(join(output, 'checkpoints/.step-1.0123456789ab.tmp'), { recursive: true }),
  }
  for (const [name, leave] of Object.entries(states)) {
    for (const mode of [{}, { resume: true }, { overwrite: true }]) {
      const output = cleanFolder(t)
      mkdirSync(output)
      leave(output)
      const end = await sft({ ...base, ...mode, model, maxSteps: 1, output }).finish()
      t.is(end.steps, 1, name)
      t.deepEqual(readdirSync(output).sort(), ['checkpoints', 'config.json', 'metrics.jsonl', 'model'], name)
      t.deepEqual(readdirSync(join(output, 'checkpoints')), ['step-1'], name)
    }
  }
  // Only the config of a run that had no event yet.
  const output = cleanFolder(t)
  await sft({ ...base, model, maxSteps: 1, output }).finish()
  for (const name of ['checkpoints', 'metrics.jsonl', 'model'])
    rmSync(join(output, name), { recursive: true })
  t.is((await sft({ ...base, model, maxSteps: 1, output }).finish()).steps, 1)
})

test('a folder that holds something else is never taken', async (t) => {
  await using model = await tinyModel()
  const output = cleanFolder(t)
  await model.save(output)
  const there = readdirSync(output)
  for (const mode of [{}, { resume: true }, { overwrite: true }])
    await t.throwsAsync(sft({ ...base, ...mode, model, output }).finish(), { message: /config\.json/ })
  t.deepEqual(readdirSync(output), there)
})

test('damage of the newest checkpoint takes the one before, says so, and gives the same bits', async (t) => {
  const folder = cleanFolder(t)
  const { losses, weights } = await killedRun(folder)
  const damages: Record<string, (checkpoint: string) => void> = {
    'optimizer\\.safetensors differs from its hash': (checkpoint) => {
      const path = join(checkpoint, 'optimizer.safetensors')
      const bytes = readFileSync(path)
      bytes[bytes.length - 5]! ^= 1
      writeFileSync(path, bytes)
    },
    'it has no model\\.safetensors': (checkpoint) => rmSync(join(checkpoint, 'model.safetensors')),
    'it has no manifest\\.json': (checkpoint) => rmSync(join(checkpoint, 'manifest.json')),
    'its manifest\\.json is damaged': (checkpoint) => writeFileSync(join(checkpoint, 'manifest.json'), '{'),
    'its state is damaged \\(cursor: ': (checkpoint) => {
      const manifest = readManifestOf(checkpoint)
      resealManifest(checkpoint, {
        ...manifest,
        state: { ...manifest.state, cursor: { epoch: 0, batch: 1 } },
      })
    },
    'it is of step 3': (checkpoint) => {
      rmSync(checkpoint, { recursive: true })
      cpSync(join(checkpoint, '../step-3'), checkpoint, { recursive: true })
    },
  }
  for (const [why, damage] of Object.entries(damages)) {
    const output = cleanFolder(t)
    cpSync(folder, output, { recursive: true })
    damage(join(output, 'checkpoints/step-4'))
    await using model = await tinyModel()
    const events = await eventsOf(sft({ ...base, model, output, resume: true }))
    const [warning, ...others] = warningsOf(events)
    t.deepEqual(others, [])
    t.like(warning, { code: 'checkpointDamaged', step: 3 })
    t.regex(
      warning!.message,
      new RegExp(`damaged, step-4 \\(${why}.*: the run resumes from .*step-3, and step 4 is made again`),
    )
    t.deepEqual(lossesOf(events), losses.slice(3))
    t.deepEqual(await weightsOf(model), weights)
    t.deepEqual(readdirSync(join(output, 'checkpoints')).sort(), ['step-4', 'step-5', 'step-6'])
  }
})

test('a checkpoint of a newer format is refused by name, not passed over', async (t) => {
  const output = cleanFolder(t)
  await killedRun(output)
  const checkpoint = join(output, 'checkpoints/step-4')
  resealManifest(checkpoint, { ...readManifestOf(checkpoint), format: 3 })
  await using model = await tinyModel()
  const before = await weightsOf(model)
  await t.throwsAsync(sft({ ...base, model, output, resume: true }).finish(), {
    code: 'ERR_INVALID_FILE',
    message: /step-4 has format 3, and this version reads formats up to 2/,
  })
  t.deepEqual(await weightsOf(model), before)
})

test('a checkpoint that cannot be saved is a warning; three in a row end the run, which resumes', async (t) => {
  await using model = await tinyModel()
  const output = cleanFolder(t)
  const checkpoints = join(output, 'checkpoints')
  const events: TrainEvent[] = []
  const run = sft({ ...base, model, output })
  // A file in the place of the folder: no checkpoint can be written.
  const away = join(output, 'away')
  for await (const event of run) {
    events.push(event)
    if (event.type !== 'step') continue
    if (event.step === 2) {
      renameSync(checkpoints, away)
      writeFileSync(checkpoints, '')
    }
    if (event.step === 4) {
      rmSync(checkpoints)
      renameSync(away, checkpoints)
    }
  }
  t.deepEqual(
    warningsOf(events).map(({ code, step }) => [code, step]),
    [
      ['checkpointFailed', 2],
      ['checkpointFailed', 3],
    ],
  )
  t.deepEqual(
    only(events, 'checkpoint').map(({ step }) => step),
    [1, 4, 5, 6],
  )

  const other = cleanFolder(t)
  const failing = sft({ ...base, model, output: other, overwrite: true })
  const error = await t.throwsAsync(
    async () => {
      for await (const event of failing) {
        if (event.type !== 'step' || event.step !== 2) continue
        renameSync(join(other, 'checkpoints'), join(other, 'away'))
        writeFileSync(join(other, 'checkpoints'), '')
      }
    },
    { code: 'ERR_IO', message: /3 checkpoints in a row could not be saved/ },
  )
  t.truthy(error?.cause)
  rmSync(join(other, 'checkpoints'))
  renameSync(join(other, 'away'), join(other, 'checkpoints'))
  t.like(await sft({ ...base, model, output: other, resume: true }).finish(), { steps: 6 })
})

test('a result that cannot be saved is an error, and a resume saves it', async (t) => {
  await using model = await tinyModel()
  const output = cleanFolder(t)
  const run = sft({ ...base, model, output })
  // No folder can be made beside it.
  const nowhere = process.platform === 'linux' ? '/proc/self' : '/dev/fd'
  await t.throwsAsync(
    async () => {
      for await (const event of run)
        if (event.type === 'step' && event.step === 6) symlinkSync(nowhere, join(output, 'model'))
    },
    { code: 'ERR_IO', message: /the checkpoint of step 6 has its weights, resume the run to save it/ },
  )
  const weights = await weightsOf(model)
  rmSync(join(output, 'model'))
  const end = await sft({ ...base, model, output, resume: true }).finish()
  await using saved = await CausalLM.load(end.model!)
  t.deepEqual(await weightsOf(saved), weights)
})

test('files that are removed from the folder of a running run are written again, so that it resumes', async (t) => {
  const output = cleanFolder(t)
  await using model = await tinyModel()
  const events: TrainEvent[] = []
  for await (const event of sft({ ...base, model, output })) {
    events.push(event)
    if (event.type === 'step' && event.step === 3)
      for (const name of ['config.json', 'metrics.jsonl', '.lock']) rmSync(join(output, name))
    if (event.type === 'checkpoint' && event.step === 4) break
  }
  t.deepEqual(
    warningsOf(events).map(({ code, message }) => [code, message.slice(0, 29)]),
    [['filesRemoved', 'config.json and metrics.jsonl']],
  )
  const resumed = await eventsOf(sft({ ...base, model, output, resume: true }))
  t.deepEqual(
    only(resumed, 'step').map(({ step }) => step),
    [5, 6],
  )
})

test('a run whose lock another process took writes nothing more', async (t) => {
  const output = cleanFolder(t)
  await using model = await tinyModel()
  const run = sft({ ...base, model, output })
  await t.throwsAsync(
    async () => {
      for await (const event of run) {
        if (event.type !== 'step' || event.step !== 2) continue
        rmSync(join(output, '.lock'))
        writeFileSync(join(output, '.lock'), `${process.ppid}\n`)
      }
    },
    { code: 'ERR_INVALID_ARGUMENT', message: /in use by another run, which took its lock/ },
  )
  t.deepEqual(readdirSync(join(output, 'checkpoints')), ['step-1'])
})

test('metrics.jsonl has the line of each checkpoint, also where a kill came before it', async (t) => {
  const output = cleanFolder(t)
  await killedRun(output)
  const path = join(output, 'metrics.jsonl')
  const lines = readFileSync(path, 'utf8').split('\n')
  writeFileSync(path, lines.filter((line) => !line.startsWith('{"type":"checkpoint","step":4')).join('\n'))
  await using model = await tinyModel()
  await sft({ ...base, model, output, resume: true }).finish()
  const told = readFileSync(path, 'utf8').matchAll(/^\{"type":"checkpoint","step":(\d+)/gm)
  t.deepEqual(
    [...told].map(([, step]) => Number(step)),
    [1, 2, 3, 4, 5, 6],
  )
})

test('run folders of 0.1.0 are resumed, to the losses of a run without a stop', async (t) => {
  const folder = cleanFolder(t)
  cpSync(fixture('resume'), folder, { recursive: true })
  const losses = readJson<{ sft: number[]; ppo: number[] }>(fixture('resume', 'losses.json'))
  const again = { resume: true, checkpoints: { everySteps: 1, keep: 2 } } as const
  {
    await using model = await CausalLM.load(join(folder, 'model'))
    const options = { maxSteps: 6, batchSize: 4, learningRate: 1e-2, ...again }
    const run = sft({ model, data: join(folder, 'rows.jsonl'), output: join(folder, 'sft'), ...options })
    close(t, lossesOf(await eventsOf(run)), losses.sft.slice(3), { absolute: 1e-5 })
  }
  await using model = await CausalLM.load(join(folder, 'model'))
  const options = { batchSize: 4, iterations: 4, maxNewTokens: 6, learningRate: 1e-3, ...again }
  const run = ppo({ model, data: wishes, reward: wished, output: join(folder, 'ppo'), ...options })
  close(t, lossesOf(await eventsOf(run)), losses.ppo.slice(3), { absolute: 1e-5 })
  t.true(existsSync(join(folder, 'ppo/model/model.safetensors')))
})

test('a model folder that a kill between two renames moved away is put back by whoever opens it', async (t) => {
  const folder = cleanFolder(t)
  await using model = await tinyModel()
  const path = join(folder, 'model')
  await model.save(path)
  renameSync(path, temporaryName(path, 'old'))
  await using again = await CausalLM.load(path)
  t.deepEqual(await weightsOf(again), await weightsOf(model))
  t.deepEqual(readdirSync(folder), ['model'])
})

test('a checkpoint that a kill kept from being removed is removed by a resume that has no step left', async (t) => {
  const output = cleanFolder(t)
  await using model = await tinyModel()
  const checkpoints = { everySteps: 1, keep: 1 }
  const options = {
    model,
    data: instructionRows(8),
    template: 'plain',
    maxSteps: 2,
    output,
    checkpoints,
  } as const
  await sft(options).finish()
  const place = (step: number) => join(output, 'checkpoints', `step-${step}`)
  cpSync(place(2), place(1), { recursive: true })
  t.like(await sft({ ...options, resume: true }).finish(), { steps: 2 })
  t.deepEqual(readdirSync(join(output, 'checkpoints')), ['step-2'])
})
