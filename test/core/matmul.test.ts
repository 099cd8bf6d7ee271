import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { close, norm } from '../helpers/close.js'

const child = fileURLToPath(new URL('matmul-child.js', import.meta.url))

async function run(kind: string, threads = 1): Promise<Record<string, number[]>> {
  const env = { ...process.env, POSTTRAIN_MATMUL: kind, OMP_NUM_THREADS: String(threads) }
  const { stdout } = await promisify(execFile)(process.execPath, [child], { env, maxBuffer: 1e9 })
  return JSON.parse(stdout) as Record<string, number[]>
}

test('oneDNN’s products are torch’s: logits, losses, gradients and greedy responses, of weights and of adapters', async (t) => {
  const [torch, onednn, onTwo] = await Promise.all([run('torch'), run('onednn'), run('onednn', 2)])
  for (const found of [onednn, onTwo]) t.deepEqual(Object.keys(found), Object.keys(torch))
  t.true(Object.keys(torch).length > 30)
  for (const [name, expected] of Object.entries(torch)) {
    for (const found of [onednn, onTwo]) {
      if (name.endsWith('greedy')) t.deepEqual(found[name], expected, name)
      else close(t, found[name]!, expected, { absolute: 1e-6 * Math.max(1, norm(expected)) }, name)
    }
  }
  // The two really went two ways: not every bit is the same.
  t.true(
    Object.entries(torch).some(([name, values]) => values.some((value, i) => value !== onednn[name]![i])),
  )
})

test('another word in POSTTRAIN_MATMUL is an error that tells the words there are', async (t) => {
  await t.throwsAsync(run('mkl'), { message: /POSTTRAIN_MATMUL must be auto, torch or onednn, got mkl/ })
})
