// Finds libtorch, or downloads it into the cache: with pip (the wheel holds the same tree), else the official archive.
import {
  createWriteStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { LIBTORCH_ARCHIVES } from '../../lib/files/origins.mjs'
import { unzip } from '../../lib/files/unzip.mjs'
import { neededBy } from '../../lib/libtorch/find/elf.mjs'
import { hashOf, isKept, manifestOf, versionOfTree } from '../../lib/libtorch/find/tree.mjs'
import { withLock } from './lock.mjs'
import { execute, SetupError, say, versionOf } from './process.mjs'

export const constants = JSON.parse(
  readFileSync(new URL('../../native/libtorch.json', import.meta.url), 'utf8'),
)

/** An empty HOME would make a cache in the current folder. */
function home() {
  if (isAbsolute(homedir())) return homedir()
  throw new SetupError('HOME is not an absolute path; set HOME, or POSTTRAIN_CACHE to a folder.')
}

/** Cache folder of this user, as in lib/libtorch/find/libtorch.ts. */
export function cacheFolder(env = process.env) {
  if (env.POSTTRAIN_CACHE) return env.POSTTRAIN_CACHE
  if (process.platform === 'darwin') return join(home(), 'Library/Caches/posttrain')
  if (process.platform === 'win32')
    return join(env.LOCALAPPDATA || join(home(), 'AppData/Local'), 'posttrain')
  const xdg = env.XDG_CACHE_HOME
  return join(xdg && isAbsolute(xdg) ? xdg : join(home(), '.cache'), 'posttrain')
}

const cpuLibrary = { linux: 'libtorch_cpu.so', darwin: 'libtorch_cpu.dylib', win32: 'torch_cpu.dll' }[
  process.platform
]
const isTree = (folder) => existsSync(join(folder, 'lib', cpuLibrary))

function cachedTree(shelf) {
  if (!existsSync(shelf)) return null
  const trees = readdirSync(shelf)
    .filter(
      (name) => name.startsWith(`${constants.version}+`) && existsSync(join(shelf, name, 'manifest.json')),
    )
    .sort((a, b) => Number(a.endsWith('+cpu')) - Number(b.endsWith('+cpu')))
    .map((name) => join(shelf, name, 'torch'))
    .filter(isTree)
  if (process.env.POSTTRAIN_CUDA === '0') trees.reverse()
  return trees[0] ?? null
}

/** Finds the libtorch folder to build against, without a download; null if none. */
export function findTree(env = process.env) {
  for (const name of ['POSTTRAIN_LIBTORCH', 'LIBTORCH']) {
    const folder = env[name]
    if (!folder) continue
    if (isTree(folder)) return folder
    throw new SetupError(
      `${name} is ${folder}, which has no lib/${cpuLibrary}; point it at a libtorch folder or unset it.`,
    )
  }
  return cachedTree(join(cacheFolder(env), 'libtorch'))
}

async function unpack(archive, folder) {
  try {
    await unzip(archive, folder, isKept)
  } catch (error) {
    throw new SetupError(`Could not unpack ${archive}: ${error.message}; delete it and run set-up again.`)
  }
}

function pipCommand() {
  for (const [program, ...args] of [
    ['python3', '-I', '-m', 'pip'],
    ['pip'],
    ['pip3'],
    ['py', '-I', '-m', 'pip'],
  ]) {
    if (versionOf(program, [...args, '--version'])) return [program, ...args]
  }
  return null
}

async function pipDownload(pip, requirements, folder) {
  const [program, ...first] = pip
  const download = (more) =>
    execute(
      program,
      [...first, 'download', '--no-deps', '--only-binary=:all:', '-d', folder, ...more, ...requirements],
      {
        what: `pip download ${requirements.join(' ')}`,
      },
    )
  const before = new Set(readdirSync(folder))
  let run = await download([])
  // If torch has no wheel for this Python, one for another Python will do: only its libraries are used.
  if (run.code !== 0) run = await download(['--python-version', '312', '--implementation', 'cp'])
  const wheels = readdirSync(folder).filter((name) => name.endsWith('.whl') && !before.has(name))
  return {
    ok: run.code === 0 && wheels.length > 0,
    wheels: wheels.map((name) => join(folder, name)),
    tail: run.tail,
  }
}

async function fromPip(pip, folder) {
  const downloads = join(folder, 'downloads')
  mkdirSync(downloads)
  say(`downloading libtorch ${constants.version} with pip (190 to 530 MB, once)`)
  const { ok, wheels, tail } = await pipDownload(pip, [`torch==${constants.pip.torch}`], downloads)
  if (!ok) return tail.trim().split('\n').at(-1) ?? 'pip failed'
  for (const wheel of wheels) await unpack(wheel, folder)
  const needed = neededBy(join(folder, 'torch/lib', cpuLibrary))
  const requirements = Object.entries(constants.nvidia)
    .filter(([, { libraries }]) => libraries.some((name) => needed.includes(name)))
    .map(([name, { version }]) => `${name}==${version}`)
  if (requirements.length > 0) {
    const more = await pipDownload(pip, requirements, downloads)
    if (!more.ok) return more.tail.trim().split('\n').at(-1) ?? 'pip failed'
    for (const wheel of more.wheels) await unpack(wheel, folder)
  }
  rmSync(downloads, { recursive: true })
  return null
}

async function download(url, path) {
  if (versionOf('curl')) {
    const args = ['-fL', '--retry', '3', '-C', '-', '-o', path, url]
    if (!process.stderr.isTTY) args.unshift('-sS')
    const { code, tail } = await execute('curl', args, { what: `downloading ${url}` })
    return code === 0 ? null : (tail.trim().split('\n').at(-1) ?? `curl ended with ${code}`)
  }
  try {
    const response = await fetch(url)
    if (!response.ok) return `the server returned ${response.status}`
    await pipeline(Readable.fromWeb(response.body), createWriteStream(path))
    return null
  } catch (error) {
    return String(error.cause?.message ?? error.message)
  }
}

async function fromArchive(folder, shelf) {
  const platform = `${process.platform}-${process.arch}`
  const archive = constants.archives[platform]?.cpu
  if (!archive) return `no official archive for ${platform}`
  const url = `${process.env.POSTTRAIN_LIBTORCH_MIRROR ?? LIBTORCH_ARCHIVES}/${archive.path}`
  const partial = join(shelf, `${archive.sha256.slice(0, 12)}.partial`)
  say(`downloading ${url} (${Math.round(archive.bytes / 1e6)} MB, once)`)
  const problem = await download(url, partial)
  if (problem) return problem
  if ((await hashOf(partial)) !== archive.sha256) {
    rmSync(partial)
    return `${url} does not have the expected sha256`
  }
  await unpack(partial, folder)
  renameSync(join(folder, 'libtorch'), join(folder, 'torch'))
  rmSync(partial)
  return null
}

/** Finds the libtorch folder, or downloads it into the cache; one process at a time. */
export async function ensureLibtorch() {
  const found = findTree()
  if (found) return found
  const shelf = join(cacheFolder(), 'libtorch')
  return withLock(join(shelf, '.lock'), async () => {
    const now = findTree()
    if (now) return now
    if (process.env.POSTTRAIN_OFFLINE === '1') {
      throw new SetupError(
        `No libtorch ${constants.version} was found, and POSTTRAIN_OFFLINE=1 forbids downloading it; set POSTTRAIN_LIBTORCH to a libtorch folder.`,
      )
    }
    for (const name of readdirSync(shelf)) {
      if (name.startsWith('tmp-')) rmSync(join(shelf, name), { recursive: true })
    }
    const folder = mkdtempSync(join(shelf, 'tmp-'))
    const clean = () => rmSync(folder, { recursive: true, force: true })
    try {
      const pip = pipCommand()
      const problems = []
      let source = 'pip'
      let problem = pip ? await fromPip(pip, folder) : 'no pip (python3 -m pip)'
      if (problem) {
        problems.push(`pip: ${problem}`)
        source = 'archive'
        problem = await fromArchive(folder, shelf)
      }
      if (problem) {
        problems.push(`archive: ${problem}`)
        throw new SetupError(
          `Could not download libtorch ${constants.version} (${problems.join('; ')}); check the network, or set POSTTRAIN_LIBTORCH to a libtorch folder.`,
        )
      }
      const stated = versionOfTree(join(folder, 'torch')) ?? constants.version
      const version = stated.includes('+') ? stated : `${stated}+cpu`
      const manifest = await manifestOf(folder, version, source)
      writeFileSync(join(folder, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`)
      const home = join(shelf, version)
      rmSync(home, { recursive: true, force: true })
      renameSync(folder, home)
      say(`libtorch ${version} is in ${home}`)
      return join(home, 'torch')
    } finally {
      clean()
    }
  })
}
