import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { newestCheckpoint } from '../../lib/train/run/checkpoint.js'
import { runNode } from '../helpers/child.js'
import { cleanFolder } from '../helpers/scratch.js'
import { startTiny } from './kill-training.js'

const child = fileURLToPath(new URL('kill-child.js', import.meta.url))

/** Calls of one save, as an unharmed child counts them. */
async function callsOfSave(t: ExecutionContext): Promise<number> {
  const { stdout } = await runNode([child, cleanFolder(t)])
  return Number(/^calls (\d+)$/m.exec(stdout)?.[1])
}

async function killed(argv: string[]): Promise<{ signal: string | null; told: [number, number][] }> {
  const { signal, stdout } = await runNode([child, ...argv])
  const told = stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => line.split(' ').map(Number) as [number, number])
  return { signal, told }
}

test('a kill -9 before each call of a save: the newest or the previous checkpoint loads, and no loss differs', async (t) => {
  const calls = await callsOfSave(t)
  t.true(calls >= 15, `${calls} calls`)
  const kills: [at: number, delay?: number][] = [
    ...Array.from({ length: calls }, (_, i) => [i + 1] as [number]),
    // After the folder is made: inside the native writes.
    ...[0, 0.5, 1, 2, 3].map((delay) => [3, delay] as [number, number]),
  ]
  const folder = cleanFolder(t)
  const { model, optimizer, step } = await startTiny()
  const expected = [Number.NaN]
  for (let n = 1; n <= 3 * kills.length; n++) expected.push(await step(n))
  await optimizer.dispose()
  await model.dispose()
  let [last, torn] = [0, 0]
  for (const [at, delay] of kills) {
    const argv = [folder, String(at), ...(delay === undefined ? [] : [String(delay)])]
    const { signal, told } = await killed(argv)
    t.is(signal, 'SIGKILL', `call ${at}: the save had ended`)
    const steps = told.map(([n]) => n)
    // A delayed kill may come when a fast disk has ended the save.
    const ended = delay !== undefined && steps.length === 3
    t.deepEqual(steps, ended ? [last + 1, last + 2, last + 3] : [last + 1, last + 2], `call ${at}`)
    for (const [n, loss] of told) t.is(loss, expected[n]!, `step ${n}`)
    const newest = await newestCheckpoint(folder)
    const manifest = JSON.parse(readFileSync(join(newest!.path, 'manifest.json'), 'utf8')) as { step: number }
    t.true(
      (ended ? [last + 3] : [last + 2, last + 3]).includes(manifest.step),
      `step ${manifest.step} after ${last + 2}`,
    )
    if (manifest.step === last + 2) torn++
    last = manifest.step
  }
  // Those before the rename lose the step, those after it do not.
  t.true(torn >= 12 && torn < kills.length, `${torn} of ${kills.length}`)
  t.log(`${torn} of ${kills.length} saves torn; ${readdirSync(folder).length} names in the folder`)
})
