// Native developer build: `node scripts/build.mjs [cmake arguments]` with POSTTRAIN_LIBTORCH set.
// Configures build-cmake/ at the first run; later runs only compile what has changed.
import { spawnSync } from 'node:child_process'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Compiles stub and core with cmake-js against the libtorch folder; returns the exit code. */
export function buildNative(libtorch, { jobs = 2, stdio = ['ignore', 2, 2], extra = [] } = {}) {
  const cli = resolve(root, 'node_modules/cmake-js/bin/cmake-js')
  const args = [cli, 'build', '--out', 'build-cmake', '--parallel', String(jobs)]
  args.push(`--CDPOSTTRAIN_LIBTORCH=${resolve(libtorch)}`, ...extra)
  const run = spawnSync(process.execPath, args, { cwd: root, stdio })
  return run.status ?? 1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (!process.env.POSTTRAIN_LIBTORCH) {
    process.stderr.write('Set POSTTRAIN_LIBTORCH to a libtorch folder, or run node scripts/setup.mjs.\n')
    process.exit(1)
  }
  process.exit(buildNative(process.env.POSTTRAIN_LIBTORCH, { extra: process.argv.slice(2) }))
}
