import { existsSync, readFileSync } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PosttrainError } from '../../errors.js'
import { writeFileAtomic } from '../../files/atomic.js'
import { packageRoot } from '../../libtorch/find/libtorch.js'
import type { Model } from '../../models/model.js'
import { lockRunFolder } from './lock.js'

/** What config.json of a run folder says: enough to see, and to check on resume, what the run was. */
export interface RunConfig {
  /** Version of this package that wrote it. */
  posttrain: string
  recipe: string
  /** All options with their defaults filled in; rows given as values are named by their hash alone. */
  options: Record<string, unknown>
  /** Content hashes of the data, so that a resume on other data is refused. */
  data: Record<string, string>
}

/** The config of a run of a model, from its options with the defaults filled in and the hashes of its data. */
export function runConfig(
  recipe: string,
  trained: Model,
  { model: _model, signal: _signal, ...options }: Record<string, unknown>,
  data: Record<string, string>,
): RunConfig {
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as {
    version: string
  }
  // Rows given as values are not written down, nor are models.
  const named = (value: unknown) => (isRows(value) ? '(rows)' : value)
  for (const [name, value] of Object.entries(options)) if (isModel(value)) options[name] = '(model)'
  return {
    posttrain: version,
    recipe,
    options: {
      ...options,
      data: named(options.data),
      validation: named(options.validation),
      adapter: options.lora === undefined ? adapterIn(trained) : undefined,
    },
    data,
  }
}

/** What an adapter that was there is, besides its values: with another scale or other layers these mean another model. */
function adapterIn(trained: Model): object | undefined {
  const config = trained.role.adapterConfig
  if (config === null) return undefined
  const { modules, rank, alpha, dropout, rsLora, dora } = config
  const targetModules = [...new Set(modules.map(({ name }) => name.split('.').at(-1)))]
  return { rank, alpha, dropout, rsLora, dora, targetModules, modules: modules.length }
}

const isModel = (value: unknown) => value !== null && typeof value === 'object' && 'backward' in value

function isRows(value: unknown): boolean {
  if (value === null || typeof value !== 'object' || 'fraction' in value) return false
  return !Array.isArray(value) || typeof value[0]?.data !== 'string'
}

/** Options that may be others on resume: they change neither the order of the data nor any update before. */
const FREE_ON_RESUME = new Set([
  'data',
  'validation',
  'output',
  'resume',
  'overwrite',
  'evaluation',
  'earlyStopping',
  'samples',
  'checkpoints',
  'maxSkippedSteps',
  'activationCheckpointing',
  'saveDtype',
  'rewardTimeoutMs',
])

/** How a run takes its folder. */
export interface FolderMode {
  resume: boolean
  overwrite: boolean
  /** Options that decide the length of the run alone: a resume may change them. */
  lengthOptions: readonly string[]
}

const OURS = ['config.json', 'metrics.jsonl', 'checkpoints', 'model', 'adapter', 'critic']

/** The folder of one run: config.json, metrics.jsonl, checkpoints/, and model/ or with LoRA adapter/. */
export class RunFolder {
  readonly path: string
  readonly checkpoints: string
  readonly model: string
  readonly adapter: string
  /** Of `ppo`. */
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
   * Takes the folder for a run. Another run in it is an error, unless `resume` goes on with it (then the
   * options that decide its numbers must be the same) or `overwrite` replaces it.
   */
  async open(config: RunConfig, mode: FolderMode): Promise<void> {
    try {
      await mkdir(this.path, { recursive: true })
    } catch (cause) {
      throw new PosttrainError(
        'ERR_IO',
        `The run folder ${this.path} cannot be made: ${(cause as Error).message}`,
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

  /** Gives the folder free for other runs. */
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
          `The folder ${this.path} holds another run (${there.join(', ')}): take another output, or resume or overwrite it`,
        )
      }
      await this.#readConfig()
      // config.json last, so that a half-removed run is still known as one.
      for (const name of there.reverse()) await rm(join(this.path, name), { recursive: true })
    }
    await mkdir(this.checkpoints, { recursive: true })
    // What a killed run had not yet renamed.
    for (const folder of [this.path, this.checkpoints]) {
      for (const name of await readdir(folder)) {
        if (/^\..+\.tmp$/.test(name)) await rm(join(folder, name), { recursive: true })
      }
    }
    await writeFileAtomic(join(this.path, 'config.json'), `${JSON.stringify(config, null, 2)}\n`)
  }

  /** Drops the metrics of steps after `step`, and of what followed it after `settled`: a resumed run makes them again. */
  async rewindMetrics({ step, settled }: { step: number; settled: number }): Promise<void> {
    const path = join(this.path, 'metrics.jsonl')
    if (!existsSync(path)) return
    const lines = (await readFile(path, 'utf8')).split('\n')
    const kept = lines.filter((line) => {
      // The last line may be torn by a kill.
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
      // Not JSON, or missing: not ours, said below.
    }
    if (typeof config?.recipe !== 'string' || typeof config.options !== 'object') {
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        `${path} is not the config of a run: the folder ${this.path} is something else, take another output`,
      )
    }
    return config as RunConfig
  }
}

function refuseOtherRun(
  before: RunConfig,
  now: RunConfig,
  path: string,
  lengthOptions: readonly string[],
): void {
  const refuse = (what: string, old: unknown, given: unknown) => {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `Cannot resume ${path}: ${what} was ${JSON.stringify(old)} and is ${JSON.stringify(given)} now; give the same, or take another output`,
    )
  }
  if (before.recipe !== now.recipe) refuse('the recipe', before.recipe, now.recipe)
  for (const name of new Set([...Object.keys(before.options), ...Object.keys(now.options)])) {
    if (FREE_ON_RESUME.has(name) || lengthOptions.includes(name)) continue
    const [old, given] = [before.options[name], now.options[name]]
    if (JSON.stringify(old) !== JSON.stringify(given)) refuse(`option ${name}`, old ?? null, given ?? null)
  }
  for (const name of Object.keys(before.data ?? {})) {
    if (before.data[name] !== now.data[name])
      refuse(`the content of ${name}`, before.data[name], now.data[name])
  }
}
