import { existsSync, readdirSync } from 'node:fs'
import { readFile, rename, rm } from 'node:fs/promises'
import { join, relative, resolve } from 'node:path'
import { PosttrainError } from '../../errors.js'
import { ioError, makeFolder, repairFolder, writeFileAtomic } from '../../files/atomic.js'
import type { Lock } from '../../files/lock.js'
import { temporariesIn, temporaryName } from '../../files/temporary.js'
import { type RunConfig, refuseOtherRun } from './config.js'
import { lockRunFolder } from './lock.js'
import { Metrics } from './metrics.js'

/** How a run opens its folder. */
interface FolderMode {
  resume: boolean
  overwrite: boolean
  /** Takes the lock of another host or container whatever its last sign of life. */
  takeLock: boolean
  /** Options that only set the length of the run: a resume may change them. */
  lengthOptions: readonly string[]
}

/**
 * The folder of one run: config.json, metrics.jsonl, checkpoints/, and model/, or adapter/ with LoRA. Its paths are
 * absolute: the working folder of the process may change while the run lasts.
 */
export class RunFolder {
  readonly path: string
  readonly #asGiven: string
  readonly checkpoints: string
  readonly model: string
  readonly adapter: string
  /** Folder of the critic, of `ppo` only. */
  readonly critic: string
  readonly metrics: Metrics
  readonly #configPath: string
  #config = ''
  #lock: Lock | null = null

  constructor(given: string) {
    const path = resolve(given)
    this.path = path
    this.#asGiven = given
    this.checkpoints = join(path, 'checkpoints')
    this.model = join(path, 'model')
    this.adapter = join(path, 'adapter')
    this.critic = join(path, 'critic')
    this.metrics = new Metrics(join(path, 'metrics.jsonl'))
    this.#configPath = join(path, 'config.json')
  }

  /**
   * Locks the folder for a run and writes its config. Another run in it is an error, unless `resume` continues it (then
   * options that affect its numbers must be equal) or `overwrite` replaces it.
   */
  async open(config: RunConfig, mode: FolderMode): Promise<void> {
    try {
      await makeFolder(this.path)
    } catch (cause) {
      const message = `The run folder ${this.#asGiven} cannot be created: ${(cause as Error).message}`
      throw new PosttrainError('ERR_IO', message, { cause })
    }
    this.#lock = await lockRunFolder(this.path, mode.takeLock)
    try {
      await this.#take(config, mode)
    } catch (error) {
      await this.close()
      throw ioError('preparing', this.#asGiven, error)
    }
  }

  /** A path in the folder, or its own, beginning as the caller wrote that of the folder. */
  shown(path: string): string {
    return path === this.path ? this.#asGiven : join(this.#asGiven, relative(this.path, path))
  }

  /** Unlocks the folder. */
  async close(): Promise<void> {
    try {
      await this.metrics.close()
    } finally {
      await this.#lock?.release()
      this.#lock = null
    }
  }

  /**
   * Writes config.json and metrics.jsonl again if somebody removed them, since a resume needs them; returns their names.
   * Throws ERR_INVALID_ARGUMENT if another process took the lock: two runs must not write into one folder.
   */
  async restore(): Promise<string[]> {
    const lost: string[] = []
    const isHeld = await makeFolder(this.path)
      .then(() => this.#lock?.keep())
      .catch((error) => {
        throw ioError('locking', this.path, error)
      })
    if (isHeld === false) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `The folder ${this.#asGiven} is in use by another run, which took its lock: this one writes nothing more into it`,
      )
    }
    if (!existsSync(this.#configPath)) {
      await writeFileAtomic(this.#configPath, this.#config)
      lost.push('config.json')
    }
    if (await this.metrics.restore()) lost.push('metrics.jsonl')
    return lost
  }

  async #take(config: RunConfig, mode: FolderMode): Promise<void> {
    await this.#repair()
    const there = this.#content()
    if (mode.resume && there.includes('config.json')) {
      refuseOtherRun(await this.#readConfig(), config, this.#asGiven, mode.lengthOptions)
    } else if (there.length > 1 || (there.length === 1 && !(await this.#hasOnlyConfig(there)))) {
      if (!mode.overwrite) throw this.#holdsAnotherRun(there, mode)
      if (!this.#hasCheckpoints()) await this.#readConfig()
      // config.json last, so that a half-removed run is still recognized; each by one rename, so that none is halved.
      for (const name of there.reverse()) {
        const old = temporaryName(join(this.path, name))
        await rename(join(this.path, name), old)
        await rm(old, { recursive: true, force: true })
      }
    }
    // First of all: what a kill leaves from here on is known as a run.
    this.#config = `${JSON.stringify(config, null, 2)}\n`
    await writeFileAtomic(this.#configPath, this.#config)
    await makeFolder(this.checkpoints)
  }

  /** Puts back what a kill between two renames moved away, and removes the temporary files of ended processes. */
  async #repair(): Promise<void> {
    for (const folder of [this.path, this.checkpoints]) {
      for (const { of, kind } of await temporariesIn(folder)) if (kind === 'old') await repairFolder(of, true)
      for (const { path, whose } of await temporariesIn(folder)) {
        // The lock is ours: only a living process may still be at work, such as on a merge into this folder.
        if (whose === 'gone' || whose === 'unknown') await rm(path, { recursive: true, force: true })
      }
    }
  }

  /** What of a run is in the folder; an empty checkpoints/ is nothing. */
  #content(): string[] {
    const names = ['config.json', 'metrics.jsonl', 'model', 'adapter', 'critic']
    const there = names.filter((name) => existsSync(join(this.path, name)))
    return this.#hasCheckpoints() ? [...there, 'checkpoints'] : there
  }

  /** Whether a run was killed before its first event, so that there is nothing to continue or to lose. */
  async #hasOnlyConfig(there: readonly string[]): Promise<boolean> {
    return there[0] === 'config.json' && (await this.#readConfig().catch(() => null)) !== null
  }

  #hasCheckpoints(): boolean {
    try {
      return readdirSync(this.checkpoints).some((name) => /^step-\d+$/.test(name))
    } catch (error) {
      if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return false
      throw ioError('reading', this.checkpoints, error)
    }
  }

  #holdsAnotherRun(there: readonly string[], { resume }: FolderMode): PosttrainError {
    const list = there.join(', ')
    return new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      resume
        ? `Cannot resume ${this.#asGiven}: it has ${list}, and no config.json, with which the options of a resumed run are compared; restore it, set option overwrite to start over, or choose another output`
        : `The folder ${this.#asGiven} holds another run (${list}): set option resume to continue it, option overwrite to replace it, or choose another output`,
    )
  }

  async #readConfig(): Promise<RunConfig> {
    const path = this.#configPath
    let config: Partial<RunConfig> | null = null
    try {
      config = JSON.parse(await readFile(path, 'utf8'))
    } catch (error) {
      // Missing or not JSON: refused below.
      const { code } = error as NodeJS.ErrnoException
      if (code !== undefined && code !== 'ENOENT') throw ioError('reading', path, error)
    }
    const { recipe, options } = config ?? {}
    if (typeof recipe !== 'string' || typeof options !== 'object' || options === null) {
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        `${path} is not the config of a run: the folder ${this.#asGiven} is not a run folder, choose another output`,
      )
    }
    return config as RunConfig
  }
}
