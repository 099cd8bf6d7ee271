// Trains a tiny model with a checkpoint after each step, going on from the newest one, and kills itself inside the
// third save: before its call number `at` of node:fs/promises, or, with `delay`, so many ms after that call. Without `at`
// it says how many calls a save makes.
import fs from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'

const [folder, at, delay] = [process.argv[2]!, Number(process.argv[3]), process.argv[4]]
let calls = Number.NEGATIVE_INFINITY
const die = () => process.kill(process.pid, 'SIGKILL')
const patched = fs as unknown as Record<string, (...given: unknown[]) => unknown>
for (const name of ['mkdir', 'open', 'readdir', 'rename', 'rm', 'stat', 'writeFile']) {
  const real = patched[name]!
  patched[name] = (...given) => {
    if (++calls === at) {
      if (delay === undefined) die()
      else setTimeout(die, Number(delay))
    }
    return real(...given)
  }
}
syncBuiltinESMExports()

// Only now: what they import from node:fs/promises is the patched one.
const { loadCheckpoint, newestCheckpoint, partsOf, rotateCheckpoints, saveCheckpoint } = await import(
  '../../lib/train/run/checkpoint.js'
)
const { exchangeOf } = await import('../../lib/models/save.js')
const { startTiny } = await import('./kill-training.js')
const { model, optimizer, step } = await startTiny()
const newest = await newestCheckpoint(folder)
if (newest) await loadCheckpoint(newest.path, partsOf(model, optimizer))
const first = newest ? (newest.state as { step: number }).step : 0
for (let n = first + 1; n <= first + 3; n++) {
  const loss = await step(n)
  if (n === first + 3) calls = 0
  await saveCheckpoint(
    folder,
    { parts: partsOf(model, optimizer), step: n, state: { step: n } },
    exchangeOf(model.role.core),
  )
  await rotateCheckpoints(folder, { keep: 2, keepStep: null, damaged: [] })
  // Synchronous for a pipe on Linux: it is told before the kill.
  process.stdout.write(`${n} ${loss}\n`)
}
if (Number.isNaN(at)) process.stdout.write(`calls ${calls}\n`)
// A kill may come late where the disk is fast.
else await new Promise((resolve) => setTimeout(resolve, 1000))
