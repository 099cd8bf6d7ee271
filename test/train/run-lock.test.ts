import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { thisProcess } from '../../lib/files/owner.js'
import { lockRunFolder } from '../../lib/train/run/lock.js'
import { sft } from '../../lib/train/sft.js'
import { cleanFolder } from '../helpers/scratch.js'
import { instructionRows, tinyModel } from '../helpers/tiny-training.js'

test('one holder at a time; the lock of a dead process is taken over', async (t) => {
  const folder = cleanFolder(t)
  mkdirSync(folder)
  const lock = await lockRunFolder(folder)
  await t.throwsAsync(lockRunFolder(folder), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /in use by a run of process/,
  })
  await lock.release()
  t.deepEqual(readdirSync(folder), [])
  // The parent lives.
  writeFileSync(join(folder, '.lock'), `${process.ppid}\n`)
  await t.throwsAsync(lockRunFolder(folder), {
    message: new RegExp(`process ${process.ppid}: .*if no such run exists, remove ${join(folder, '.lock')}`),
  })
  const { pid } = spawnSync(process.execPath, ['-e', ''])
  writeFileSync(join(folder, '.lock'), `${pid}\n`)
  const locks = await Promise.allSettled([lockRunFolder(folder), lockRunFolder(folder)])
  t.is(locks.filter(({ status }) => status === 'fulfilled').length, 1)
})

test('two runs cannot share a folder, and it is free again after any end', async (t) => {
  const output = cleanFolder(t)
  await using model = await tinyModel()
  await using other = await tinyModel()
  const options = { model, data: instructionRows(8), template: 'plain', maxSteps: 3, output } as const
  for await (const _ of sft(options)) {
    const another = sft({ ...options, model: other, resume: true })
    await t.throwsAsync(another.finish(), { message: /in use by a run/ })
    break
  }
  mkdirSync(join(output, 'checkpoints/.step-1.0123456789ab.tmp'), { recursive: true })
  await t.throwsAsync(sft(options).finish(), { message: /holds another run/ })
  t.like(await sft({ ...options, resume: true }).finish(), { steps: 3 })
  t.false(existsSync(join(output, '.lock')))
  t.deepEqual(readdirSync(join(output, 'checkpoints')), ['step-2', 'step-3'])
})

test('takeLock takes the folder of a run of another host at once, and no folder of a living one here', async (t) => {
  const output = cleanFolder(t)
  mkdirSync(output)
  await using model = await tinyModel()
  const options = { model, data: instructionRows(8), template: 'plain', maxSteps: 1, output } as const
  writeFileSync(join(output, '.lock'), JSON.stringify({ ...thisProcess(), host: 'other' }))
  await t.throwsAsync(sft(options).finish(), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /process \d+ on host other .*free 60 s after it was last seen, or at once with option takeLock/,
  })
  await sft({ ...options, takeLock: true }).finish()
  t.false(existsSync(join(output, '.lock')))
  writeFileSync(join(output, '.lock'), `${process.ppid}\n`)
  await t.throwsAsync(sft({ ...options, takeLock: true, resume: true }).finish(), {
    message: /in use by a run/,
  })
  const { output: _, ...without } = options
  t.throws(() => sft({ ...without, takeLock: true }), { message: /no effect without output/ })
})
