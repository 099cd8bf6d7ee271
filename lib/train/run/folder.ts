import { existsSync } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PosttrainError } from '../../errors.js'
import { writeFileAtomic } from '../../files/atomic.js'
import { type RunConfig, refuseOtherRun } from './config.js'
import { lockRunFolder } from './lock.js'

/** How a run opens its folder. */
interface FolderMode {
  resume: boolean
  overwrite: boolean
  /** Options that only set the length of the run: a resume may change them. */
  lengthOptions: readonly string[]
}

const OURS = ['config.json', 'metrics.jsonl', 'checkpoints', 'model', 'adapter', 'critic']

/** The folder of one run: config.json, metrics.jsonl, checkpoints/, and model/, or adapter/ with LoRA. */
export class RunFolder {
  readonly path: string
  readonly checkpoints: string
  readonly model: string
  readonly adapter: string
  /** Folder of the critic, of `ppo` only. */
  readonly critic: string
  #unlock: (() => Promise<void>) | null = null
  #metrics: FileHandle | null = null

  constructor(path: string) {
    this.path = path
    this.checkpoints = join(path, 'checkpoints')
    this.model = join(path, 'model')
    this.adapter = join(path, 'adapter')
    this.critic = join(path, 'critic')
  }

  /**
   * Locks the folder for a run and writes its config. Another run in it is an error, unless `resume` continues it (then
   * options that affect its numbers must be equal) or `overwrite` replaces it.
   */
  async open(config: RunConfig, mode: FolderMode): Promise<void> {
    try {
      await mkdir(this.path, { recursive: true })
    } catch (cause) {
      throw new PosttrainError(
        'ERR_IO',
        `The run folder ${this.path} cannot be created: ${(cause as Error).message}`,
        {
          cause,
        },
      )
    }
    this.#unlock = await lockRunFolder(this.path)
    try {
      await this.#take(config, mode)
    } catch (error) {
      await this.close()
      throw error
    }
  }

  /** Unlocks the folder. */
  async close(): Promise<void> {
    await this.#metrics?.close()
    this.#metrics = null
    await this.#unlock?.()
    this.#unlock = null
  }

  async #take(config: RunConfig, mode: FolderMode): Promise<void> {
    const there = OURS.filter((name) => existsSync(join(this.path, name)))
    if (mode.resume && there.includes('config.json')) {
      refuseOtherRun(await this.#readConfig(), config, this.path, mode.lengthOptions)
    } else if (there.length > 0) {
      if (!mode.overwrite) {
        throw new PosttrainError(
          'ERR_INVALID_ARGUMENT',
          `The folder ${this.path} holds another run (${there.join(', ')}): choose another output, or resume or overwrite it`,
        )
      }
      await this.#readConfig()
      // config.json last, so that a half-removed run is still recognized.
      for (const name of there.reverse()) await rm(join(this.path, name), { recursive: true })
    }
    await mkdir(this.checkpoints, { recursive: true })
    // Temporary files of a killed run.
    for (const folder of [this.path, this.checkpoints]) {
      for (const name of await readdir(folder)) {
        if (/^\..+\.tmp$/.test(name)) await rm(join(folder, name), { recursive: true })
      }
    }
    await writeFileAtomic(join(this.path, 'config.json'), `${JSON.stringify(config, null, 2)}\n`)
  }

  /** Drops step events after `step` and other events after `settled`: a resumed run writes them again. */
  async rewindMetrics({ step, settled }: { step: number; settled: number }): Promise<void> {
    const path = join(this.path, 'metrics.jsonl')
    if (!existsSync(path)) return
    const lines = (await readFile(path, 'utf8')).split('\n')
    const kept = lines.filter((line) => {
      // A kill may leave the last line incomplete.
      try {
        const event = JSON.parse(line) as { type: string; step?: number }
        return event.type !== 'end' && (event.step ?? 0) <= (event.type === 'step' ? step : settled)
      } catch {
        return false
      }
    })
    await writeFileAtomic(path, kept.map((line) => `${line}\n`).join(''))
  }

  async appendMetrics(event: object): Promise<void> {
    this.#metrics ??= await open(join(this.path, 'metrics.jsonl'), 'a')
    try {
      await this.#metrics.appendFile(`${JSON.stringify(event)}\n`)
    } catch (cause) {
      const message = `Writing ${join(this.path, 'metrics.jsonl')} failed: ${(cause as Error).message}`
      throw new PosttrainError('ERR_IO', message, { cause })
    }
  }

  async #readConfig(): Promise<RunConfig> {
    const path = join(this.path, 'config.json')
    let config: Partial<RunConfig> = {}
    try {
      config = JSON.parse(await readFile(path, 'utf8')) as Partial<RunConfig>
    } catch {
      // Missing or not JSON: refused below.
    }
    if (typeof config?.recipe !== 'string' || typeof config.options !== 'object') {
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        `${path} is not the config of a run: the folder ${this.path} is not a run folder, choose another output`,
      )
    }
    return config as RunConfig
  }
}
