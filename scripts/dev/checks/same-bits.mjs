// Builds another commit in a folder of its own and trains every recipe on both sides, on this machine: metrics, weights,
// moments, checkpoints and saved models must be equal to the bit. For a change that must change no number.
//   node scripts/dev/checks/same-bits.mjs COMMIT [--steps 20]
// Prints each run that differs and from which step on; exits with 1 where one does.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const here = fileURLToPath(new URL('../../..', import.meta.url))
const { values, positionals } = parseArgs({
  options: { steps: { type: 'string', default: '20' } },
  allowPositionals: true,
})
const [commit] = positionals
if (commit === undefined) {
  console.error('usage: node scripts/dev/checks/same-bits.mjs COMMIT [--steps 20]')
  process.exit(2)
}

/** Runs by name. */
function traced(root) {
  const program = fileURLToPath(new URL('./trace.mjs', import.meta.url))
  const out = execFileSync(process.execPath, [program, '--root', root, '--steps', values.steps], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const runs = out.trim().split('\n')
  return new Map(runs.map((line) => JSON.parse(line)).map((run) => [run.name, run]))
}

/** What differs between two traces of a run, in words; empty where nothing does. */
function differences(before, after) {
  if (after === undefined) return ['is missing']
  const found = []
  const step = before.losses.findIndex((loss, i) => loss !== after.losses[i])
  if (step >= 0) found.push(`loss of step ${step + 1}: ${before.losses[step]} and ${after.losses[step]}`)
  else if (before.losses.length !== after.losses.length) found.push('number of steps')
  if (before.events !== after.events) found.push('events')
  if (before.weights !== after.weights) found.push('weights')
  const files = before.files.filter((file, i) => file !== after.files[i])
  if (files.length > 0 || before.files.length !== after.files.length)
    found.push(`files (${files.join(', ')})`)
  return found
}

const folder = mkdtempSync(join(tmpdir(), 'posttrain-same-bits-'))
const base = join(folder, 'base')
const git = (...args) => execFileSync('git', args, { cwd: here, stdio: ['ignore', 'ignore', 'inherit'] })
try {
  git('worktree', 'add', '--detach', base, commit)
  for (const root of [base, here])
    execFileSync(process.execPath, [join(root, 'scripts/setup.mjs')], {
      stdio: ['ignore', 'ignore', 'inherit'],
    })
  const [before, after] = [traced(base), traced(here)]
  let differing = 0
  for (const [name, run] of before) {
    const found = differences(run, after.get(name))
    if (found.length === 0) continue
    differing++
    console.log(`${name}: ${found.join('; ')}`)
  }
  console.log(`${before.size} runs of ${values.steps} steps, ${before.size - differing} equal to the bit`)
  process.exitCode = differing === 0 ? 0 : 1
} finally {
  git('worktree', 'remove', '--force', base)
  rmSync(folder, { recursive: true, force: true })
}
