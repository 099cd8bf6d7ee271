import { existsSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { isMainThread } from 'node:worker_threads'
import { PosttrainError } from '../errors.js'
import { checkLibtorch } from '../libtorch/find/check.js'
import {
  findLibtorch,
  type Libtorch,
  librarySuffix,
  libtorchConstants,
  packageRoot,
  unpacked,
} from '../libtorch/find/libtorch.js'
import { type CudaMode, driverTooOld, type Verdict, verifyLibtorch } from '../libtorch/find/verify.js'
import type { Core } from './addon.js'

/** The exports of the stub. */
interface Stub {
  open(options: { libtorch: string; core: string; cuda: CudaMode }): Core
  /** Findings of `open`. */
  state(): Omit<Verdict, 'mode'>
}

/** The stub and the core of one build, in the same folder. */
export interface NativeBuild {
  kind: 'cmake' | 'gyp' | 'prebuild'
  stub: string
  core: string
}

/** The build and libtorch that `loadCore` opened. */
export interface LoadState {
  build: NativeBuild
  libtorch: Libtorch
  verdict: Verdict
}

const shutdownMs = 2000

/**
 * Finds the native build to load: the first of `build-cmake/`, `build/` and `prebuilds/` with both files;
 * `POSTTRAIN_BUILD=cmake|gyp|prebuild` selects one.
 *
 * @throws PosttrainError ERR_LIBTORCH_LOAD if there is none, ERR_INVALID_ARGUMENT for an unknown POSTTRAIN_BUILD.
 */
export function findBuild(env: Record<string, string | undefined> = process.env): NativeBuild {
  const root = packageRoot()
  const folders: Record<NativeBuild['kind'], string> = {
    cmake: join(root, 'build-cmake/Release'),
    gyp: join(root, 'build/Release'),
    prebuild: join(root, 'prebuilds', `${process.platform}-${process.arch}`),
  }
  const kinds = Object.keys(folders) as NativeBuild['kind'][]
  const asked = env.POSTTRAIN_BUILD
  if (asked && !kinds.some((kind) => kind === asked)) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `POSTTRAIN_BUILD is ${asked}; it must be ${kinds.join(', ')} or unset.`,
    )
  }
  // Tests load a core that can simulate failing allocations and file faults.
  const name = env.POSTTRAIN_TEST_HOOKS === '1' ? 'posttrain_core_hooks' : 'posttrain_core'
  for (const kind of kinds) {
    if (asked && asked !== kind) continue
    const folder = unpacked(folders[kind])
    if (!existsSync(folder)) continue
    const stub = readdirSync(folder).find((file) => /^posttrain(\..+)?\.node$/.test(file))
    const core = join(folder, `${name}.torch${libtorchConstants().minor}.${librarySuffix()}`)
    if (stub && existsSync(core)) return { kind, stub: join(folder, stub), core }
  }
  if (/[\\/]app\.asar([\\/]|$)/.test(root)) {
    throw new PosttrainError(
      'ERR_LIBTORCH_LOAD',
      `The native build of posttrain for ${process.platform}-${process.arch} is not beside ${root}, and nothing can be opened inside app.asar: add '**/*.node' and '**/posttrain_core*' to asarUnpack (electron-builder) or asar.unpack (Forge).`,
    )
  }
  throw new PosttrainError(
    'ERR_LIBTORCH_LOAD',
    `There is no native build of posttrain for ${process.platform}-${process.arch}${asked ? ` (POSTTRAIN_BUILD=${asked})` : ''} in ${root}; in a clone, run \`node scripts/setup.mjs\`.`,
  )
}

/** `POSTTRAIN_CUDA=0` leaves the CUDA libraries closed, `=1` opens them even without a driver. */
export function cudaMode(env: Record<string, string | undefined> = process.env): CudaMode {
  switch (env.POSTTRAIN_CUDA) {
    case undefined:
    case '':
      return 'auto'
    case '0':
      return 'off'
    case '1':
      return 'on'
    default:
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `POSTTRAIN_CUDA is ${env.POSTTRAIN_CUDA}; it must be 0, 1 or unset.`,
      )
  }
}

/**
 * Checks the variables that the core reads itself. Throws ERR_INVALID_ARGUMENT for a value that would have no effect.
 */
export function checkEnvironment(env: Record<string, string | undefined> = process.env): void {
  const refuse = (name: string, expected: string) =>
    new PosttrainError('ERR_INVALID_ARGUMENT', `${name} is ${env[name]}; it must be ${expected} or unset.`)
  const {
    POSTTRAIN_ALLOCATOR: allocator,
    POSTTRAIN_ALLOCATOR_CACHE_MB: cache,
    POSTTRAIN_KERNELS: kernels,
  } = env
  if (allocator && allocator !== 'system') throw refuse('POSTTRAIN_ALLOCATOR', 'system')
  if (cache && !/^\d{1,9}$/.test(cache))
    throw refuse('POSTTRAIN_ALLOCATOR_CACHE_MB', 'a whole number of megabytes')
  // cpu and cuda are for tests, which run the calls of one device on another.
  if (kernels && !['reference', 'aten', 'cpu', 'cuda'].includes(kernels))
    throw refuse('POSTTRAIN_KERNELS', 'reference, aten')
}

function open(
  build: NativeBuild,
  libtorch: Libtorch,
  mode: CudaMode,
): { core: Core; found: Omit<Verdict, 'mode'> } {
  try {
    const stub: Stub = createRequire(import.meta.url)(build.stub)
    const core = stub.open({ libtorch: libtorch.libraries, core: build.core, cuda: mode })
    return { core, found: stub.state() }
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    throw new PosttrainError(code === 'ERR_LIBTORCH_VERSION' ? code : 'ERR_LIBTORCH_LOAD', `${message}.`, {
      cause: error,
    })
  }
}

/**
 * Shuts the core down when the process ends. Environment cleanup hooks do not run at process.exit() or after an uncaught
 * exception, and a thread inside libtorch would then abort the process. The end of a worker is not the end of the
 * process: a native hook handles it.
 */
function endWithProcess(core: Core): void {
  if (!isMainThread) return
  process.on('exit', (code) => {
    if (!core.shutdown(shutdownMs)) core.exitNow(code)
  })
}

/**
 * Whether this is a utility process of Electron, which opens libtorch without trying it in a child process first: the
 * app survives a crash of it, and with the fuse runAsNode off a child would start the whole app instead of Node.
 */
function isUtilityProcess(): boolean {
  return (process as { type?: string }).type === 'utility'
}

let state: LoadState | undefined
let loading: Promise<Core> | undefined

/** MKL ends the process when it is first used in a folder that was removed. */
function refuseMissingFolder(): void {
  try {
    process.cwd()
  } catch (cause) {
    throw new PosttrainError(
      'ERR_LIBTORCH_LOAD',
      'The current folder of this process was removed, and libtorch does not work without one: change to another folder',
      { cause },
    )
  }
}

async function load(): Promise<Core> {
  checkEnvironment()
  refuseMissingFolder()
  const mode = cudaMode()
  const build = findBuild()
  const libtorch = findLibtorch()
  checkLibtorch(libtorch)
  // libgomp's threads spin while they wait, which slows other processes; it reads this when it is opened.
  process.env.GOMP_SPINCOUNT ??= '1000'
  if (isUtilityProcess()) {
    const tooOld = driverTooOld(libtorch, mode)
    const { core, found } = open(build, libtorch, tooOld === null ? mode : 'off')
    endWithProcess(core)
    state = { build, libtorch, verdict: { ...found, mode, ...(tooOld !== null && { cudaError: tooOld }) } }
    return core
  }
  const verdict = await verifyLibtorch(build.stub, libtorch, mode)
  const { core } = open(build, libtorch, verdict.mode)
  endWithProcess(core)
  state = { build, libtorch, verdict }
  return core
}

/**
 * Opens the native core, once per process. A child process tries each libtorch before its first use (0.3 to 0.6 s), so
 * that a damaged library cannot crash this process; except in a utility process of Electron.
 *
 * @throws PosttrainError ERR_LIBTORCH_NOT_FOUND, ERR_LIBTORCH_VERSION, ERR_LIBTORCH_LOAD, ERR_INVALID_ARGUMENT. A later
 * call tries again.
 */
export function loadCore(): Promise<Core> {
  loading ??= load().catch((error) => {
    loading = undefined
    throw error
  })
  return loading
}

/** The build and libtorch in use; undefined before `loadCore` has succeeded. */
export function loadState(): LoadState | undefined {
  return state
}
