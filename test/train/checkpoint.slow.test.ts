import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { exchangeOf } from '../../lib/models/save.js'
import { AdamW } from '../../lib/optim/adamw.js'
import {
  loadCheckpoint,
  newestCheckpoint,
  partsOf,
  rotateCheckpoints,
  saveCheckpoint,
} from '../../lib/train/run/checkpoint.js'
import { eventsIn, posttrain } from '../helpers/command-line.js'
import { cleanFolder, newFolder } from '../helpers/scratch.js'
import { instructionRows, tinyModel, weightsOf } from '../helpers/tiny-training.js'

test('a checkpoint restores: weights, moments and state; the newest are kept, and the one asked for', async (t) => {
  const folder = cleanFolder(t)
  await using model = await tinyModel(1)
  await using optimizer = new AdamW(model, { learningRate: 1e-2 })
  const batch = {
    inputIds: Int32Array.of(1, 2, 3, 4),
    offsets: Int32Array.of(0, 4),
    labels: Int32Array.of(1, 2, 3, 4),
  }
  const step = async () => {
    await optimizer.zeroGrad()
    await model.backward(batch, { kind: 'crossEntropy' })
    await optimizer.step()
  }
  await step()
  t.is(await newestCheckpoint(folder), null)
  for (const n of [1, 2, 3, 10]) {
    const path = await saveCheckpoint(
      folder,
      { parts: partsOf(model, optimizer), step: n, state: { n, third: 1 / 3 } },
      exchangeOf(model.role.core),
    )
    await rotateCheckpoints(folder, { keep: 2, keepStep: 1, damaged: [] })
    t.is(path, join(folder, `step-${n}`))
  }
  t.deepEqual(readdirSync(folder).sort(), ['step-1', 'step-10', 'step-3'])
  await step()
  const expected = await weightsOf(model)

  await using other = await tinyModel(2)
  await using fresh = new AdamW(other, { learningRate: 1e-2 })
  const newest = await newestCheckpoint(folder)
  t.deepEqual(newest, { path: join(folder, 'step-10'), state: { n: 10, third: 1 / 3 }, damaged: [] })
  await loadCheckpoint(newest!.path, partsOf(other, fresh))
  await fresh.zeroGrad()
  await other.backward(batch, { kind: 'crossEntropy' })
  await fresh.step()
  t.deepEqual(await weightsOf(other), expected)
})

test('a checkpoint that is not whole is passed over for the one before', async (t) => {
  const folder = cleanFolder(t)
  await using model = await tinyModel()
  await using optimizer = new AdamW(model, { learningRate: 1e-2 })
  const save = (step: number) =>
    saveCheckpoint(
      folder,
      { parts: partsOf(model, optimizer), step, state: step },
      exchangeOf(model.role.core),
    )
  for (const n of [1, 2, 3]) await save(n)
  truncateSync(join(folder, 'step-3/optimizer.safetensors'), 100)
  t.like(await newestCheckpoint(folder), {
    path: join(folder, 'step-2'),
    damaged: [{ step: 3, why: 'optimizer.safetensors has another size than when it was saved' }],
  })
  await t.throwsAsync(loadCheckpoint(join(folder, 'step-3'), partsOf(model, optimizer)), {
    code: 'ERR_INVALID_FILE',
  })
  writeFileSync(join(folder, 'step-2/manifest.json'), '{"format":')
  t.is((await newestCheckpoint(folder))?.path, join(folder, 'step-1'))
  // A file in its place.
  writeFileSync(join(folder, 'step-99'), '')
  t.like(await newestCheckpoint(folder), { path: join(folder, 'step-1') })
  truncateSync(join(folder, 'step-1/model.safetensors'), 100)
  // Not the same as none: a resume would begin anew, and forget what was told.
  await t.throwsAsync(newestCheckpoint(folder), {
    code: 'ERR_INVALID_FILE',
    message: /no checkpoint in .* is complete \(step-99: .*; step-3: .*; step-2: .*; step-1: /,
  })
  await save(99)
  t.like(await newestCheckpoint(folder), { path: join(folder, 'step-99'), damaged: [] })
})

test('20 kill -9 in and around saves: each time the newest or the previous checkpoint loads, and no loss differs', async (t) => {
  const folder = newFolder(t)
  const [model, data, output] = [join(folder, 'model'), join(folder, 'rows.jsonl'), cleanFolder(t)]
  {
    await using tiny = await tinyModel()
    await tiny.save(model)
  }
  const rows = instructionRows(40).map((row) => JSON.stringify(row))
  writeFileSync(data, rows.join('\n'))
  const argv = [
    'sft',
    '--model',
    model,
    '--data',
    data,
    '--threads',
    '1',
    '--learning-rate',
    '1e-3',
    '--json',
  ]
  argv.push('--batch-size', '2', '--max-steps', '60')
  const losses = (stdout: string) =>
    eventsIn(stdout.slice(0, stdout.lastIndexOf('\n') + 1))
      .filter(({ type }) => type === 'step')
      .map(({ step, loss }) => [step, loss] as [number, number])
  const expected = new Map(losses((await posttrain(argv)).stdout))
  t.is(expected.size, 60)

  const saving = [...argv, '--output', output, '--checkpoints-every-steps', '1', '--resume']
  let inside = 0
  for (let kill = 0; kill < 20; kill++) {
    let told = 0
    let steps = 0
    const { signal, stdout } = await posttrain(saving, (line, child) => {
      const event = JSON.parse(line) as { type: string; step: number }
      if (event.type === 'checkpoint') told = event.step
      // A save follows each step and takes some milliseconds: the kills fall all over it.
      if (event.type === 'step' && ++steps === 2) setTimeout(() => child.kill('SIGKILL'), kill % 10)
    })
    t.is(signal, 'SIGKILL')
    for (const [step, loss] of losses(stdout)) t.is(loss, expected.get(step)!, `step ${step}`)
    const names = readdirSync(join(output, 'checkpoints'))
    if (names.some((name) => name.endsWith('.tmp'))) inside++
    const newest = await newestCheckpoint(join(output, 'checkpoints'))
    const { step } = JSON.parse(readFileSync(join(newest!.path, 'manifest.json'), 'utf8')) as { step: number }
    t.true(step >= told, `${step} ${told}`)
  }
  t.log(`${inside} of 20 inside a save`)
  t.true(inside >= 3)
  const last = await posttrain(saving)
  t.is(last.code, 0, last.stderr)
  for (const [step, loss] of losses(last.stdout)) t.is(loss, expected.get(step)!)
  const metrics = losses(readFileSync(join(output, 'metrics.jsonl'), 'utf8'))
  t.deepEqual(metrics, [...expected])
  t.true(existsSync(join(output, 'model/model.safetensors')))
})
