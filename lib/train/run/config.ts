import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { PosttrainError } from '../../errors.js'
import { packageRoot } from '../../libtorch/find/libtorch.js'
import type { Model } from '../../models/model.js'

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

/**
 * Throws ERR_INVALID_ARGUMENT where a resumed run would not be the one in the folder: another recipe, other data, or other
 * options than those that a resume may change, `lengthOptions` among them.
 */
export function refuseOtherRun(
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
