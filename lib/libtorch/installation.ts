import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import { cp, rename, rm } from 'node:fs/promises'
import { basename, join, relative } from 'node:path'
import { is, needOptions } from '../arguments.js'
import { PosttrainError, throwIfAborted } from '../errors.js'
import { writeFileAtomic } from '../files/atomic.js'
import { download } from '../files/download.js'
import { Listeners } from '../files/listeners.js'
import { unzip } from '../files/unzip.mjs'
import { archiveFor, archives, suitableVariant, type Variant } from './archives.js'
import { damagedLibraries } from './find/damage.js'
import { libraryNames, libtorchConstants, shelfFolder } from './find/libtorch.js'
import { hashOf, isKept, isLibrary, manifestOf, versionOfTree } from './find/tree.mjs'
import { type Given, lookAtGiven } from './given.js'
import {
  isKeptOfWheel,
  missingLibraries,
  packagesOf,
  pipCommandFor,
  pipDownload,
  placeOfWheelEntry,
} from './nvidia.js'
import { downloadsFolder, listShelf, lockShelf, sweep, temporaryHome } from './shelf.js'

/** Progress of an installation. */
export type InstallEvent =
  /** Another process installs. */
  | { type: 'wait'; pid: number }
  | { type: 'download'; url: string; receivedBytes: number; totalBytes: number }
  | { type: 'retry'; reason: string }
  | { type: 'pip'; requirements: string[] }
  | { type: 'unpack'; file: string; readBytes: number; totalBytes: number }

/** Options of `installLibtorch`. */
export interface InstallOptions {
  /** Which build of libtorch; 'auto' is CUDA where there is a driver for it. Defaults to `'auto'`. */
  variant?: 'auto' | Variant
  /**
   * An archive, a wheel, an unpacked libtorch, or a folder of these, with NVIDIA's wheels; what is not there is
   * downloaded. Default: all is downloaded.
   */
  from?: string
  /** Installs again what is there. Defaults to `false`. */
  force?: boolean
  /** Called with what is being done, for a progress bar; what it throws ends the installation, as it is. Optional. */
  onEvent?: (event: InstallEvent) => void
  /** Aborts downloads and unpacking; nothing is left in the cache then. Optional. */
  signal?: AbortSignal
}

/** The libtorch that `installLibtorch` put into the cache or found there. */
export interface Installed {
  /** Such as `2.13.0+cpu`. */
  version: string
  /** With lib/ and include/. */
  folder: string
  /** False where it was there already. */
  isNew: boolean
  /** Why this variant, where it was not asked for by name. */
  because?: string
}

type Env = Record<string, string | undefined>

/** One call of installLibtorch. */
export class Installation {
  readonly #options: InstallOptions
  readonly #env: Env
  readonly #asked: 'auto' | Variant
  readonly #given: Given
  readonly #told: Listeners<InstallEvent>

  constructor(options: InstallOptions, env: Env) {
    needOptions('installLibtorch', options, {
      variant: is.oneOf('auto', 'cpu', 'cu130'),
      from: is.path,
      force: is.flag,
      onEvent: is.callable,
      signal: is.signal,
    })
    this.#options = options
    this.#env = env
    this.#told = new Listeners(() => [options.onEvent])
    this.#asked = options.variant ?? 'auto'
    const nothing = { tree: null, archive: null, wheels: [] }
    this.#given = options.from === undefined ? nothing : lookAtGiven(options.from, this.#asked)
  }

  async run(): Promise<Installed> {
    const { force, signal } = this.#options
    const ownFiles = this.#given.tree !== null || this.#given.archive !== null
    // The files tell what they are.
    const choice = this.#asked === 'auto' && !ownFiles ? suitableVariant() : null
    const variant = choice?.variant ?? this.#asked
    const because = choice === null ? {} : { because: choice.because }
    const there = async () => {
      if (force || ownFiles || variant === 'auto') return null
      const version = `${libtorchConstants().version}+${variant}`
      const entry = (await listShelf(this.#env)).find(
        (shelved) => shelved.version === version && shelved.whole,
      )
      if (entry === undefined) return null
      const { folder } = entry
      const damaged = await damagedLibraries({
        folder,
        libraries: join(folder, 'lib'),
        version,
        source: 'cache',
      })
      return damaged === null || damaged.length === 0 ? { version, folder, isNew: false, ...because } : null
    }
    const before = await there()
    if (before !== null) return before
    const release = await lockShelf(this.#env, {
      signal,
      onWait: (pid) => this.#told.tell({ type: 'wait', pid }),
    })
    const home = temporaryHome(this.#env)
    try {
      const meanwhile = await there()
      if (meanwhile !== null) return meanwhile
      await sweep(this.#env)
      mkdirSync(home)
      const source = await this.#fill(home, variant)
      this.#refuseOtherFiles(home)
      await this.#addNvidia(home)
      const version = this.#versionOf(home)
      const manifest = await manifestOf(home, version, source)
      await writeFileAtomic(join(home, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`)
      const final = join(shelfFolder(this.#env), version)
      if (existsSync(final)) await rename(final, temporaryHome(this.#env))
      await rename(home, final)
      await rm(downloadsFolder(this.#env), { recursive: true, force: true })
      await sweep(this.#env)
      return { version, folder: join(final, 'torch'), isNew: true, ...because }
    } finally {
      await rm(home, { recursive: true, force: true })
      await release()
    }
  }

  /** Brings the tree to `home`/torch; what is told of its origin goes into the manifest. */
  async #fill(home: string, variant: Variant | 'auto'): Promise<string> {
    const { tree, archive } = this.#given
    const torch = join(home, 'torch')
    if (tree !== null) {
      const filter = (path: string) => {
        const name = relative(tree, path)
        return statSync(path).isDirectory()
          ? /^(lib|include(\/.*)?)?$/.test(name)
          : isKept(join('torch', name))
      }
      await cp(tree, torch, { recursive: true, dereference: true, filter })
      return 'folder'
    }
    const path =
      archive ?? (await this.#fetchArchive(variant === 'auto' ? suitableVariant().variant : variant))
    if (archive !== null) await this.#checkHash(archive)
    await this.#unpack(path, home, isKept)
    if (existsSync(join(home, 'libtorch'))) await rename(join(home, 'libtorch'), torch)
    if (!existsSync(join(torch, 'lib', libraryNames().cpu)))
      throw new PosttrainError('ERR_INVALID_FILE', `There is no lib/${libraryNames().cpu} in ${path}.`)
    return path.endsWith('.whl') ? 'wheel' : 'archive'
  }

  /** Text that a proxy sent, or libraries of another platform, would end the process that opens them. */
  #refuseOtherFiles(home: string): void {
    const folder = join(home, 'torch/lib')
    const { c10, cpu, cuda } = libraryNames()
    for (const name of [c10, cpu, cuda]) {
      const path = join(folder, name)
      if (!existsSync(path) || isLibrary(path)) continue
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        `${name} in ${this.#options.from ?? 'the archive'} is not a shared library of ${process.platform}; download it again.`,
      )
    }
  }

  async #fetchArchive(variant: Variant): Promise<string> {
    const { url, name, bytes, sha256 } = archiveFor(variant, this.#env)
    const path = join(downloadsFolder(this.#env), name)
    // Whole from an earlier time, when something after it failed.
    if (existsSync(path)) {
      if ((await hashOf(path)) === sha256) return path
      await rm(path)
    }
    if (this.#env.POSTTRAIN_OFFLINE === '1')
      throw new PosttrainError(
        'ERR_LIBTORCH_NOT_FOUND',
        `POSTTRAIN_OFFLINE=1 forbids downloading ${url}; copy the file here manually and run \`posttrain libtorch install --from FILE\`.`,
      )
    await download(url, path, {
      sha256,
      expectedBytes: bytes,
      signal: this.#options.signal,
      onProgress: ({ receivedBytes }) =>
        this.#told.tell({ type: 'download', url, receivedBytes, totalBytes: bytes }),
      onRetry: (reason) => this.#told.tell({ type: 'retry', reason: reason.message }),
    }).catch((cause) => {
      if (!(cause instanceof PosttrainError) || cause.code !== 'ERR_NETWORK') throw cause
      const more = 'or copy the file here manually and run `posttrain libtorch install --from FILE`'
      throw new PosttrainError('ERR_NETWORK', `${cause.message}; ${more}.`, { cause })
    })
    return path
  }

  /** An official archive that was brought by hand has to be what it is called. */
  async #checkHash(path: string): Promise<void> {
    const official = archives(this.#env).find(({ name }) => name === decodeURIComponent(basename(path)))
    if (official === undefined) return
    if ((await hashOf(path)) !== official.sha256)
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        `The sha256 of ${path} differs from that of the official file (${official.sha256}); download it again.`,
      )
  }

  async #unpack(
    archive: string,
    home: string,
    wanted: (name: string) => boolean,
    rename?: (name: string) => string,
  ): Promise<void> {
    const { signal } = this.#options
    const [totalBytes, file] = [statSync(archive).size, basename(archive)]
    let readBytes = 0
    const onEntry = (bytes: number) => {
      throwIfAborted(signal)
      readBytes += bytes
      this.#told.tell({ type: 'unpack', file, readBytes, totalBytes })
    }
    try {
      await unzip(archive, home, wanted, { onEntry, ...(rename && { rename }) })
    } catch (cause) {
      if (signal?.aborted || this.#told.failure !== null || 'syscall' in (cause as Error)) throw cause
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        `${archive} cannot be unpacked: ${(cause as Error).message}; delete it and download it again.`,
        { cause },
      )
    }
  }

  /** NVIDIA's libraries that the archive lacks: from the wheels given, then by pip. */
  async #addNvidia(home: string): Promise<void> {
    const libraries = join(home, 'torch/lib')
    const add = async (wheels: string[]) => {
      for (const wheel of wheels) await this.#unpack(wheel, home, isKeptOfWheel, placeOfWheelEntry)
    }
    let missing = missingLibraries(libraries)
    if (missing.length > 0) await add(this.#given.wheels)
    // Those that were added may ask for more.
    for (let round = 0; round < 3; round++) {
      missing = missingLibraries(libraries)
      if (missing.length === 0) return
      const { requirements, unknown } = packagesOf(missing)
      const wheels = join(downloadsFolder(this.#env), 'nvidia')
      mkdirSync(wheels, { recursive: true })
      const problem =
        unknown.length > 0
          ? `no known package has ${unknown.join(', ')}`
          : await this.#pip(requirements, wheels)
      if (problem !== null)
        throw new PosttrainError(
          'ERR_LIBTORCH_NOT_FOUND',
          `This libtorch needs ${missing.join(', ')}, which its archive does not contain, and ${problem}; on a Linux machine with pip run \`${pipCommandFor(requirements, 'FOLDER')}\`, then here \`posttrain libtorch install --variant cu130 --from FOLDER\`.`,
        )
      await add(readdirSync(wheels).map((name) => join(wheels, name)))
    }
  }

  async #pip(requirements: string[], folder: string): Promise<string | null> {
    if (this.#env.POSTTRAIN_OFFLINE === '1') return 'POSTTRAIN_OFFLINE=1 forbids downloading them'
    this.#told.tell({ type: 'pip', requirements })
    const { signal } = this.#options
    const problem = await pipDownload(requirements, folder, signal)
    throwIfAborted(signal)
    return problem
  }

  /** `2.13.0+cpu` from what the tree says of itself. */
  #versionOf(home: string): string {
    const { version } = libtorchConstants()
    const stated = versionOfTree(join(home, 'torch')) ?? version
    const hasCuda = existsSync(join(home, 'torch/lib', libraryNames().cuda))
    const full = stated.includes('+') ? stated : `${stated}+${hasCuda ? 'cu130' : 'cpu'}`
    if (!full.startsWith(`${version}+`))
      throw new PosttrainError(
        'ERR_LIBTORCH_VERSION',
        `${this.#options.from ?? 'The archive'} contains libtorch ${stated}, but this version of posttrain needs ${version}.`,
      )
    if (this.#asked !== 'auto' && !full.endsWith(`+${this.#asked}`))
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `${this.#options.from ?? 'The archive'} contains libtorch ${full}, but variant ${this.#asked} was requested.`,
      )
    return full
  }
}
