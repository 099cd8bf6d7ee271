// Native developer build: `node scripts/build.mjs` with POSTTRAIN_LIBTORCH set.
// Configures build-cmake/ in the first run; later runs compile only what has changed.
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism, freemem } from 'node:os'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { execute, SetupError, versionOf } from './setup/process.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Compile jobs to run at once; each that includes ATen needs about 1 GB. */
export function parallelJobs() {
  const wanted = Number(process.env.POSTTRAIN_JOBS)
  if (wanted > 0) return wanted
  return Math.max(1, Math.min(availableParallelism(), Math.floor(freemem() / 1.2e9)))
}

/** Removes build-cmake/ if it was configured for another libtorch or another path. */
function forgetOtherConfiguration(libtorch) {
  const cache = resolve(root, 'build-cmake/CMakeCache.txt')
  if (!existsSync(cache)) return
  const text = readFileSync(cache, 'utf8')
  const value = (key) => new RegExp(`^${key}:[A-Z]+=(.*)$`, 'm').exec(text)?.[1]
  if (
    value('POSTTRAIN_LIBTORCH') !== libtorch ||
    resolve(value('CMAKE_HOME_DIRECTORY') ?? '') !== resolve(root)
  ) {
    rmSync(resolve(root, 'build-cmake'), { recursive: true })
  }
}

/** Throws a SetupError that names the missing build tool. */
export function checkTools({ cmake = true } = {}) {
  const compiler = process.env.CXX || 'c++'
  if (process.platform !== 'win32' && !versionOf(compiler)) {
    throw new SetupError(
      `No C++ compiler was found (${compiler}); install g++ 10 or newer, or clang 12 or newer.`,
    )
  }
  if (cmake && !versionOf('cmake')) throw new SetupError('No cmake was found; install cmake 3.19 or newer.')
}

/** Compiles the stub and the core with cmake-js against the libtorch folder. */
export async function buildNative(libtorch) {
  checkTools()
  const folder = resolve(libtorch)
  forgetOtherConfiguration(folder)
  const cli = resolve(root, 'node_modules/cmake-js/bin/cmake-js')
  const args = [cli, 'build', '--out', 'build-cmake', '--parallel', String(parallelJobs())]
  const options = { what: 'native build', cwd: root, env: { ...process.env, POSTTRAIN_LIBTORCH: folder } }
  const { code } = await execute(process.execPath, [...args, `--CDPOSTTRAIN_LIBTORCH=${folder}`], options)
  if (code !== 0) throw new SetupError('The native build failed (see above).')
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const libtorch = process.env.POSTTRAIN_LIBTORCH
  try {
    if (!libtorch)
      throw new SetupError('Set POSTTRAIN_LIBTORCH to a libtorch folder, or run node scripts/setup.mjs.')
    await buildNative(libtorch)
  } catch (error) {
    if (!(error instanceof SetupError)) throw error
    process.stderr.write(`posttrain: ${error.message}\n`)
    process.exitCode = 1
  }
}
