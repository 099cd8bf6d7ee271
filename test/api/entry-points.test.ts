import { fileURLToPath } from 'node:url'
import test from 'ava'
import * as api from '../../lib/index.js'
import * as losses from '../../lib/losses/index.js'
import { runChild } from '../helpers/child.js'
import { newFolder } from '../helpers/scratch.js'

interface Told {
  calls: number
  entryPoints: string[]
  /** Entry points that refuse their valid arguments too. */
  refused: string[]
  failures: string[]
}

const child = fileURLToPath(new URL('entry-points-child.js', import.meta.url))

// What no call reaches: errors, and the class of runs that recipes return.
const NOT_CALLED = [
  'AbortError',
  'PosttrainError',
  'Run',
  'DistillRun',
  'IGNORE_INDEX',
  'alpacaTemplate',
  'plainTemplate',
]

test('every entry point answers every wrong value with a PosttrainError, or takes it', async (t) => {
  t.timeout(120_000)
  const { code, stdout, stderr } = await runChild(process.execPath, [child], {
    cwd: newFolder(t),
    env: { HF_HUB_OFFLINE: '1', POSTTRAIN_OFFLINE: '1' },
    timeoutMs: 110_000,
  })
  t.is(code, 0, stderr)
  const told = JSON.parse(stdout.trim().split('\n').at(-1)!) as Told
  t.deepEqual(told.failures, [])
  t.true(told.calls > 15_000, `${told.calls} calls`)
  // Few entry points are called with arguments that cannot do: a push, an installation, a model without a template.
  t.true(told.refused.length <= 9, told.refused.join('\n'))
  const called = told.entryPoints.join(' ')
  for (const name of Object.keys({ ...api, ...losses }))
    if (!NOT_CALLED.includes(name)) t.true(called.includes(name), `${name} is not in the table`)
})
