import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PosttrainError } from '../errors.js'

/** Where a libtorch was found: the first of these that names one is taken, in this order. */
export type LibtorchSource = 'option' | 'POSTTRAIN_LIBTORCH' | 'LIBTORCH' | 'package' | 'cache' | 'python'

export interface Libtorch {
  /** Folder with `lib/`; absolute. */
  folder: string
  /** Folder of the libraries themselves; absolute. */
  libraries: string
  /** What the folder says of itself, such as `2.13.0+cpu`; null where it says nothing. */
  version: string | null
  source: LibtorchSource
}

/** `native/libtorch.json`: the one place of the version, the archives and their hashes. */
interface Constants {
  version: string
  minor: string
}

type Env = Record<string, string | undefined>

/** The folder of this package: the nearest one above this file with a package.json. */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'package.json')) && dirname(folder) !== folder) folder = dirname(folder)
  return folder
}

export function libtorchConstants(): Constants {
  return JSON.parse(readFileSync(join(packageRoot(), 'native/libtorch.json'), 'utf8'))
}

/** What this package keeps for all programs of this user: `POSTTRAIN_CACHE`, else the platform's own place. */
export function cacheFolder(env: Env = process.env): string {
  if (env.POSTTRAIN_CACHE) return resolve(env.POSTTRAIN_CACHE)
  if (process.platform === 'darwin') return join(homedir(), 'Library/Caches/posttrain')
  if (process.platform === 'win32') {
    return join(env.LOCALAPPDATA ?? join(homedir(), 'AppData/Local'), 'posttrain')
  }
  return join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'posttrain')
}

/** What the names of shared libraries end in, ours and libtorch's. */
export function librarySuffix(): 'dll' | 'dylib' | 'so' {
  if (process.platform === 'win32') return 'dll'
  return process.platform === 'darwin' ? 'dylib' : 'so'
}

/** File names of libtorch's CPU libraries, in the order in which they are opened. */
export function libraryNames(): { c10: string; cpu: string; cuda: string } {
  if (process.platform === 'win32') return { c10: 'c10.dll', cpu: 'torch_cpu.dll', cuda: 'torch_cuda.dll' }
  const suffix = librarySuffix()
  return { c10: `libc10.${suffix}`, cpu: `libtorch_cpu.${suffix}`, cuda: `libtorch_cuda.${suffix}` }
}

/** Inside Electron's app.asar nothing can be opened; electron-builder unpacks native files beside it. */
export function unpacked(path: string): string {
  const outside = path.replace(/([\\/])app\.asar([\\/])/, '$1app.asar.unpacked$2')
  return outside !== path && existsSync(outside) ? outside : path
}

function versionOf(folder: string): string | null {
  for (const name of ['version.py', 'build-version']) {
    const path = join(folder, name)
    if (!existsSync(path)) continue
    const text = readFileSync(path, 'utf8')
    return /__version__\s*=\s*'([^']+)'/.exec(text)?.[1] ?? text.trim()
  }
  return null
}

function at(path: string, source: LibtorchSource): Libtorch | null {
  const folder = unpacked(resolve(path))
  const { cpu } = libraryNames()
  if (existsSync(join(folder, 'lib', cpu))) {
    return { folder, libraries: join(folder, 'lib'), version: versionOf(folder), source }
  }
  if (existsSync(join(folder, cpu))) {
    return { folder: dirname(folder), libraries: folder, version: versionOf(dirname(folder)), source }
  }
  return null
}

function fromPackage(): Libtorch | null {
  try {
    const require = createRequire(import.meta.url)
    const json = require.resolve(`@posttrain/libtorch-${process.platform}-${process.arch}/package.json`)
    return at(dirname(json), 'package')
  } catch {
    return null
  }
}

function fromCache(env: Env): Libtorch | null {
  const shelf = join(cacheFolder(env), 'libtorch')
  if (!existsSync(shelf)) return null
  const { version } = libtorchConstants()
  const folders = readdirSync(shelf)
    .filter((name) => name.startsWith(`${version}+`) && existsSync(join(shelf, name, 'manifest.json')))
    .sort((a, b) => Number(a.endsWith('+cpu')) - Number(b.endsWith('+cpu')))
  if (env.POSTTRAIN_CUDA === '0') folders.reverse()
  for (const name of folders) {
    const found = at(join(shelf, name, 'torch'), 'cache')
    if (found) return found
  }
  return null
}

function fromPython(env: Env): Libtorch | null {
  if (env.LIBTORCH_USE_PYTORCH !== '1') return null
  const program = "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
  const run = spawnSync('python3', ['-c', program], { encoding: 'utf8' })
  return run.status === 0 ? at(run.stdout.trim(), 'python') : null
}

/**
 * Finds libtorch without opening it: `folder`, then `POSTTRAIN_LIBTORCH`, `LIBTORCH`, the platform package, the
 * cache, and a Python torch if `LIBTORCH_USE_PYTORCH=1`.
 *
 * @throws PosttrainError ERR_LIBTORCH_NOT_FOUND, also where a folder that was named has no libtorch in it.
 */
export function findLibtorch(options: { folder?: string; env?: Env } = {}): Libtorch {
  const env = options.env ?? process.env
  const named: [LibtorchSource, string | undefined][] = [
    ['option', options.folder],
    ['POSTTRAIN_LIBTORCH', env.POSTTRAIN_LIBTORCH],
    ['LIBTORCH', env.LIBTORCH],
  ]
  for (const [source, path] of named) {
    if (!path) continue
    const found = at(path, source)
    if (found) return found
    const what = source === 'option' ? 'the libtorch folder' : source
    throw new PosttrainError(
      'ERR_LIBTORCH_NOT_FOUND',
      `There is no lib/${libraryNames().cpu} in ${what} (${path}); point it at an unpacked libtorch ${libtorchConstants().version}.`,
    )
  }
  const found = fromPackage() ?? fromCache(env) ?? fromPython(env)
  if (found) return found
  throw new PosttrainError(
    'ERR_LIBTORCH_NOT_FOUND',
    `libtorch ${libtorchConstants().version} was not found (looked at POSTTRAIN_LIBTORCH, LIBTORCH and ${join(cacheFolder(env), 'libtorch')}); set POSTTRAIN_LIBTORCH to a libtorch folder, or run \`node scripts/setup.mjs\` in a clone to fetch it.`,
  )
}

/**
 * What can be seen without opening: the stated version, and for a tree in our cache the size of each library.
 *
 * @throws PosttrainError ERR_LIBTORCH_VERSION or ERR_LIBTORCH_LOAD.
 */
export function checkLibtorch(libtorch: Libtorch): void {
  const { minor } = libtorchConstants()
  if (libtorch.version !== null && !libtorch.version.startsWith(`${minor}.`)) {
    throw new PosttrainError(
      'ERR_LIBTORCH_VERSION',
      `libtorch in ${libtorch.folder} (${libtorch.source}) is version ${libtorch.version}; this build of posttrain needs ${minor}.`,
    )
  }
  if (libtorch.source !== 'cache') return
  const home = dirname(libtorch.folder)
  const manifest: { libraries: Record<string, number> } = JSON.parse(
    readFileSync(join(home, 'manifest.json'), 'utf8'),
  )
  for (const [name, bytes] of Object.entries(manifest.libraries)) {
    const size = statSync(join(home, name), { throwIfNoEntry: false })?.size
    if (size === bytes) continue
    const state = size === undefined ? 'is missing' : `has ${size} bytes instead of ${bytes}`
    throw new PosttrainError(
      'ERR_LIBTORCH_LOAD',
      `${join(home, name)} ${state}; delete ${home} and run \`node scripts/setup.mjs\` to fetch it again.`,
    )
  }
}
