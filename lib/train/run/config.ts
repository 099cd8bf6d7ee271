import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { PosttrainError } from '../../errors.js'
import { packageRoot } from '../../libtorch/find/libtorch.js'
import type { Model } from '../../models/model.js'

/** config.json of a run folder: a record of the run, which a resume compares. */
export interface RunConfig {
  /** Version of posttrain that wrote it. */
  posttrain: string
  recipe: string
  /**
   * How string prompts were taken: in a user turn of the template, or raw. Absent in recipes without a template, and in
   * runs begun before there was a choice, which took them raw.
   */
  stringPrompts?: 'turn' | 'raw'
  /** All options with their defaults filled in, without the rows and models among them. */
  options: Record<string, unknown>
  /** Where the model came from, and its precision in memory; absent for new weights. */
  model?: { path: string; revision?: string; dtype: string; quantize?: 'nf4' }
  /** Content hashes of the data, so that a resume on other data is refused. */
  data: Record<string, string>
}

/** The config of a run, from its options with defaults filled in and the hashes of its data. */
export function runConfig(
  recipe: string,
  trained: Model,
  { model: _model, signal: _signal, stringPrompts, ...options }: Record<string, unknown>,
  data: Record<string, string>,
): RunConfig {
  const { version } = JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')) as {
    version: string
  }
  // Rows and models in memory are not written.
  const named = (value: unknown) => (isRows(value) ? '(rows)' : value)
  for (const [name, value] of Object.entries(options)) if (isModel(value)) options[name] = '(model)'
  const { source, dtype, quantize } = trained.role.base
  const revision = source?.revision == null ? {} : { revision: source.revision }
  return {
    posttrain: version,
    recipe,
    ...(stringPrompts !== undefined && { stringPrompts: stringPrompts as 'turn' | 'raw' }),
    ...(source && { model: { path: source.name, ...revision, dtype, ...(quantize && { quantize }) } }),
    options: {
      ...options,
      data: named(options.data),
      validation: named(options.validation),
      adapter: options.lora === undefined ? adapterIn(trained) : undefined,
    },
    data,
  }
}

/** The config of the run that a resume continues; null where there is none that can be read. */
export async function configBefore({
  output,
  resume,
}: {
  output?: string | undefined
  resume: boolean
}): Promise<Partial<RunConfig> | null> {
  if (output === undefined || !resume) return null
  try {
    const config = JSON.parse(await readFile(join(output, 'config.json'), 'utf8')) as unknown
    return typeof config === 'object' ? (config as Partial<RunConfig> | null) : null
  } catch {
    // Missing or damaged: opening the run folder starts a new run or reports it.
    return null
  }
}

/** Shape and scale of an adapter in use: with others the same weights are another model. */
function adapterIn(trained: Model): object | undefined {
  const config = trained.role.adapterConfig
  if (config === null) return undefined
  const { modules, copies, rank, alpha, dropout, rsLora, dora, saved } = config
  const { rank_pattern: ranks, alpha_pattern: alphas } = saved as Record<string, object | undefined>
  const targetModules = [...new Set(modules.map(({ name }) => name.split('.').at(-1)))]
  return {
    ...{ rank, alpha, dropout, rsLora, dora, targetModules, modules: modules.length },
    ...(ranks && Object.keys(ranks).length > 0 && { ranks }),
    ...(alphas && Object.keys(alphas).length > 0 && { alphas }),
    ...(copies.length > 0 && { copies: copies.map(({ name }) => name) }),
  }
}

const isModel = (value: unknown) => value !== null && typeof value === 'object' && 'backward' in value

function isRows(value: unknown): boolean {
  if (value === null || typeof value !== 'object' || 'fraction' in value) return false
  return !Array.isArray(value) || typeof value[0]?.data !== 'string'
}

/** Options that a resume may change: they affect neither the order of the data nor any earlier update. */
const FREE_ON_RESUME = new Set([
  'data',
  'validation',
  'output',
  'resume',
  'overwrite',
  'takeLock',
  'evaluation',
  'earlyStopping',
  'keep',
  'samples',
  'checkpoints',
  'maxSkippedSteps',
  'activationCheckpointing',
  'saveDtype',
  'rewardTimeoutMs',
])

/** A value as config.json holds it. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value ?? null))

/** Values by which runs trained before these options existed; their config.json has none. */
const BEFORE_OPTION: Readonly<Record<string, unknown>> = {
  optimizer: 'adamw',
  reasoning: 'template',
  rendered: false,
  documents: 'paragraph',
  'lora.bias': 'none',
  'lora.ensureWeightTying': false,
}

/** An option that was given, or that it was not: its default may depend on the model. */
const shownOption = (value: unknown) => (value == null ? 'not given' : JSON.stringify(value))

/** Options of a config.json with the values of those that its version did not have. */
function completed(options: RunConfig['options'], now: RunConfig['options']): RunConfig['options'] {
  const result = structuredClone(options)
  for (const [path, value] of Object.entries(BEFORE_OPTION)) {
    const names = path.split('.')
    const last = names.pop()!
    const at = (root: unknown) =>
      names.reduce<unknown>((part, name) => (part as Record<string, unknown>)?.[name], root)
    const [old, given] = [at(result), at(now)] as (Record<string, unknown> | undefined)[]
    if (old && given && old[last] === undefined && given[last] !== undefined) old[last] = value
  }
  return result
}

/**
 * Throws ERR_INVALID_ARGUMENT if a resumed run differs from the one in the folder: in its recipe, its data, or an option
 * that a resume may not change. It may change `lengthOptions`.
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
      `Cannot resume ${path}: ${what} was ${shownOption(old)} and is ${shownOption(given)} now; use the same, or choose another output`,
    )
  }
  if (before.recipe !== now.recipe) refuse('the recipe', before.recipe, now.recipe)
  const [old, given] = [before, now].map(({ model }) => model?.quantize)
  if (old !== given) refuse('quantize', old, given)
  const options = completed(before.options, now.options)
  for (const name of new Set([...Object.keys(options), ...Object.keys(now.options)])) {
    if (FREE_ON_RESUME.has(name) || lengthOptions.includes(name)) continue
    const [old, given] = [options[name], now.options[name]]
    if (!isDeepStrictEqual(plain(old), plain(given))) refuse(`option ${name}`, old, given)
  }
  for (const name of Object.keys(before.data ?? {})) {
    if (before.data[name] !== now.data[name])
      refuse(`the content of ${name}`, before.data[name], now.data[name])
  }
}
