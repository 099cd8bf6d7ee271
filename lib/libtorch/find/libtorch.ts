import { spawnSync } from 'node:child_process'
import { accessSync, existsSync, constants as modes, readdirSync, readFileSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, isAbsolute, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PosttrainError } from '../../errors.js'
import { homeFolder } from '../../files/home.js'
import { versionOfTree } from './tree.mjs'

/** Where a libtorch was found: the first of these that names one is taken, in this order. */
export type LibtorchSource = 'option' | 'POSTTRAIN_LIBTORCH' | 'LIBTORCH' | 'package' | 'cache' | 'python'

export interface Libtorch {
  /** Folder with `lib/`; absolute. */
  folder: string
  /** Folder of the libraries themselves; absolute. */
  libraries: string
  /** Version stated by the folder, such as `2.13.0+cpu`; null if none. */
  version: string | null
  source: LibtorchSource
}

/** A place that was looked at for a libtorch. */
export interface Tried {
  source: LibtorchSource
  /** Place searched: a folder, a package, a program. */
  place: string
  /** `taken`, `not needed` after one that was taken, or why it is not this one. */
  outcome: string
}

/** An official archive. */
export interface ArchiveEntry {
  /** Below the place of the archives, as in a URL. */
  path: string
  bytes: number
  sha256: string
}

/** `native/libtorch.json`: the one place of the version, the archives and their hashes. */
interface Constants {
  version: string
  minor: string
  /** The oldest that libtorch runs with: C library of Linux, NVIDIA driver for the CUDA builds. */
  needs: { glibc: string; driver: string }
  /** By platform, then by variant. */
  archives: Record<string, Record<string, ArchiveEntry>>
  /** NVIDIA's packages, and the libraries in them by which others ask for them. */
  nvidia: Record<string, { version: string; libraries: string[] }>
}

type Env = Record<string, string | undefined>

let root: string | undefined

function findRoot(): string | null {
  // A bundle of CommonJS has no import.meta.url, a bundle of ES modules lies in the folder of somebody else's package.
  if (!import.meta.url?.startsWith('file:')) return null
  let folder = dirname(fileURLToPath(import.meta.url))
  while (!existsSync(join(folder, 'package.json')) && dirname(folder) !== folder) folder = dirname(folder)
  const json = join(folder, 'package.json')
  return existsSync(json) && JSON.parse(readFileSync(json, 'utf8')).name === 'posttrain' ? folder : null
}

/**
 * The folder of this package: the nearest one above this file with a package.json.
 *
 * @throws PosttrainError ERR_BUNDLED where this file was made part of another one.
 */
export function packageRoot(): string {
  root ??= findRoot() ?? undefined
  if (root !== undefined) return root
  throw new PosttrainError(
    'ERR_BUNDLED',
    'posttrain was bundled into another file, away from its native libraries and workers; mark it as external (esbuild --external:posttrain, rollup and Vite `external`, webpack `externals`) and keep node_modules/posttrain beside the bundle.',
  )
}

let constants: Constants | undefined

export function libtorchConstants(): Constants {
  constants ??= JSON.parse(readFileSync(join(packageRoot(), 'native/libtorch.json'), 'utf8')) as Constants
  return constants
}

/**
 * Cache folder of this user: `POSTTRAIN_CACHE`, else the platform's cache location.
 *
 * @throws PosttrainError ERR_INVALID_ARGUMENT without a home folder.
 */
export function cacheFolder(env: Env = process.env): string {
  if (env.POSTTRAIN_CACHE) return resolve(env.POSTTRAIN_CACHE)
  if (process.platform === 'darwin') return join(homeFolder(), 'Library/Caches/posttrain')
  if (process.platform === 'win32') {
    return join(env.LOCALAPPDATA || join(homeFolder(), 'AppData/Local'), 'posttrain')
  }
  // The XDG specification says to ignore relative paths.
  const xdg = env.XDG_CACHE_HOME
  return join(xdg && isAbsolute(xdg) ? xdg : join(homeFolder(), '.cache'), 'posttrain')
}

/** File ending of shared libraries, ours and libtorch's. */
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

function at(path: string, source: LibtorchSource): Libtorch | null {
  const folder = unpacked(resolve(path))
  const { cpu } = libraryNames()
  if (existsSync(join(folder, 'lib', cpu))) {
    return { folder, libraries: join(folder, 'lib'), version: versionOfTree(folder), source }
  }
  if (existsSync(join(folder, cpu))) {
    return { folder: dirname(folder), libraries: folder, version: versionOfTree(dirname(folder)), source }
  }
  return null
}

/** One source: where it looks, and the libtorch there or why there is none. */
interface Place {
  source: LibtorchSource
  place: string
  look: () => Libtorch | string
}

function named(source: LibtorchSource, place: string, path: string | undefined): Place {
  return {
    source,
    place,
    look: () => (path ? (at(path, source) ?? `no lib/${libraryNames().cpu} in ${path}`) : 'not set'),
  }
}

function platformPackage(): Place {
  const name = `@posttrain/libtorch-${process.platform}-${process.arch}`
  const look = () => {
    let json: string
    try {
      json = createRequire(import.meta.url).resolve(`${name}/package.json`)
    } catch {
      return 'not installed'
    }
    return at(dirname(json), 'package') ?? `no lib/${libraryNames().cpu} in ${dirname(json)}`
  }
  return { source: 'package', place: name, look }
}

/** Where `posttrain libtorch install` and set-up put libtorch: a folder for each version, whole if it has a manifest. */
export function shelfFolder(env: Env = process.env): string {
  return join(cacheFolder(env), 'libtorch')
}

/** The cache as a place to look at, which there is none of without a home folder. */
function inCache(env: Env): Place {
  try {
    const shelf = shelfFolder(env)
    return { source: 'cache', place: shelf, look: () => fromShelf(shelf, env) }
  } catch (error) {
    return { source: 'cache', place: 'the cache', look: () => (error as Error).message }
  }
}

/** Whether someone else than this user and root can put libraries into a folder. Root itself reads what it is given. */
function isOfOthers(folder: string): boolean {
  const own = process.getuid?.()
  if (own === undefined || own === 0) return false
  const { uid, mode } = statSync(folder)
  return (uid !== own && uid !== 0) || (mode & 0o002) !== 0
}

/** Prefers the one with CUDA of two: it computes on the CPU too. */
function fromShelf(shelf: string, env: Env): Libtorch | string {
  const { version } = libtorchConstants()
  let all: string[]
  try {
    all = readdirSync(shelf).filter((name) => /^\d/.test(name))
    for (const name of all) accessSync(join(shelf, name), modes.R_OK | modes.X_OK)
    const stranger = [shelf, ...all.map((name) => join(shelf, name))].find(isOfOthers)
    if (stranger !== undefined) return `${stranger} belongs to another user, or every user can write there`
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    return code === 'ENOENT' ? 'empty' : `cannot be read (${message})`
  }
  const names = all
    .filter((name) => name.startsWith(`${version}+`) && existsSync(join(shelf, name, 'manifest.json')))
    .sort((a, b) => Number(a.endsWith('+cpu')) - Number(b.endsWith('+cpu')))
  if (env.POSTTRAIN_CUDA === '0') names.reverse()
  for (const name of names) {
    const found = at(join(shelf, name, 'torch'), 'cache')
    if (found) return found
  }
  return all.length === 0 ? 'empty' : `only ${all.join(', ')}, no complete ${version}`
}

/** Without the current folder, where a `torch` of a stranger may lie; with the packages of this user. */
const FIND_TORCH = `
import importlib.util, os, site, sys
own = site.getusersitepackages()
if os.path.isabs(own): sys.path.append(own)
print(importlib.util.find_spec('torch').submodule_search_locations[0])`

/** Accepts the same minor version only; another one is silently wrong. */
function fromPython(env: Env): Libtorch | string {
  if (env.LIBTORCH_USE_PYTORCH !== '1') return 'not enabled (LIBTORCH_USE_PYTORCH=1)'
  const run = spawnSync('python3', ['-I', '-c', FIND_TORCH], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  })
  if (run.error) return `no python3 (${run.error.message})`
  if (run.status !== 0) return 'this Python has no torch'
  const found = at(run.stdout.trim(), 'python')
  if (found === null) return `no lib/${libraryNames().cpu} in ${run.stdout.trim()}`
  const { minor } = libtorchConstants()
  return found.version?.startsWith(`${minor}.`)
    ? found
    : `version ${found.version} in ${found.folder}, but ${minor} is needed`
}

/**
 * Looks for libtorch in this order, without opening it: `folder`, `POSTTRAIN_LIBTORCH`, `LIBTORCH`, the platform
 * package, the cache, and a Python torch if `LIBTORCH_USE_PYTORCH=1`. A folder that is named is the last place looked at.
 */
export function searchLibtorch(options: { folder?: string; env?: Env } = {}): {
  found: Libtorch | null
  tried: Tried[]
} {
  const env = options.env ?? process.env
  const places: Place[] = [
    ...(options.folder ? [named('option', 'the libtorch folder', options.folder)] : []),
    named('POSTTRAIN_LIBTORCH', 'POSTTRAIN_LIBTORCH', env.POSTTRAIN_LIBTORCH),
    named('LIBTORCH', 'LIBTORCH', env.LIBTORCH),
    platformPackage(),
    inCache(env),
    { source: 'python', place: 'python3', look: () => fromPython(env) },
  ]
  const tried: Tried[] = []
  for (const { source, place, look } of places) {
    const result = look()
    const found = typeof result === 'string' ? null : result
    tried.push({ source, place, outcome: found ? 'taken' : (result as string) })
    const isNamed = source === 'option' || source === 'POSTTRAIN_LIBTORCH' || source === 'LIBTORCH'
    if (found !== null || (isNamed && result !== 'not set')) return { found, tried }
  }
  return { found: null, tried }
}

/**
 * The libtorch that `searchLibtorch` finds.
 *
 * @throws PosttrainError ERR_LIBTORCH_NOT_FOUND, also where a folder that was named has no libtorch in it.
 */
export function findLibtorch(options: { folder?: string; env?: Env } = {}): Libtorch {
  const { found, tried } = searchLibtorch(options)
  if (found !== null) return found
  const { version } = libtorchConstants()
  const last = tried.at(-1)!
  const { env = process.env, folder } = options
  throw new PosttrainError(
    'ERR_LIBTORCH_NOT_FOUND',
    last.source === 'python'
      ? `libtorch ${version} was not found (${tried.map(({ place, outcome }) => `${place}: ${outcome}`).join('; ')}); run \`npx posttrain libtorch install\`, or set POSTTRAIN_LIBTORCH to a libtorch folder.`
      : `There is no lib/${libraryNames().cpu} in ${last.place} (${folder ?? env[last.source]}); point it at an unpacked libtorch ${version}, or unset it and run \`npx posttrain libtorch install\`.`,
  )
}
