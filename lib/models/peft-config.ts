// adapter_config.json of PEFT 0.21: what it asks for, what is refused and why, and how it is written.
import { readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { PosttrainError } from '../errors.js'
import { isFile, LIMITS, parseJsonObject, readTextIfThere } from '../files/read.js'
import type { Base } from './base.js'
import type { AdapterConfig } from './lora.js'

type Json = Record<string, unknown>

/** A field that is refused unless it has one of its neutral values, and the reason. */
interface Refused {
  neutral: readonly unknown[]
  because: string
}

const absent = (because: string): Refused => ({ neutral: [undefined, null, false], because })

const REFUSED: Record<string, Refused> = {
  layer_replication: absent('it repeats layers of the base, so that the adapter fits a deeper model'),
  target_parameters: absent('it updates parameters that are no layers, such as the experts of a mixture'),
  lora_bias: absent('its B matrices have a bias'),
  alora_invocation_tokens: absent('it is active only after certain tokens'),
  arrow_config: absent('it routes each token to one of several adapters'),
  use_bdlora: absent('its matrices are block-diagonal'),
  use_qalora: absent('it pools its inputs for the groups of a quantized base'),
  kasa_config: absent('it has singular values of its own besides A and B'),
  monteclora_config: absent('it samples its updates'),
}

/** Other fields of PEFT 0.21, which the loaded numbers do not depend on, or which are read below. */
const KNOWN = new Set([
  'alpha_pattern',
  'auto_mapping',
  'base_model_name_or_path',
  'bias',
  'corda_config',
  'ensure_weight_tying',
  'eva_config',
  'exclude_modules',
  'fan_in_fan_out',
  'inference_mode',
  'init_lora_weights',
  'layers_pattern',
  'layers_to_transform',
  'loftq_config',
  'lora_alpha',
  'lora_dropout',
  'lora_ga_config',
  'megatron_config',
  'megatron_core',
  // Of PEFT 0.2.
  'merge_weights',
  'modules_to_save',
  'peft_type',
  'peft_version',
  'qalora_group_size',
  'r',
  'rank_pattern',
  'revision',
  'runtime_config',
  'target_modules',
  'task_type',
  'trainable_token_indices',
  'use_dora',
  'use_rslora',
  // Compresses what a training of PEFT keeps for its backward.
  'velora_config',
])

/** Initializations that leave the base as it is. */
const NEUTRAL_INITS: readonly unknown[] = [true, false, 'gaussian', 'orthogonal', 'eva', undefined, null]

/** Initializations that took something out of the base which its weights determine. */
const TAKEN_OUT: readonly unknown[] = ['pissa', 'olora']

/** Why an adapter with another initialization cannot be right on the base's own weights. */
function whyNot(init: unknown): string {
  const convert =
    'save it with path_initial_model_for_weight_conversion in PEFT, which makes a LoRA of the base from it'
  const name = String(init)
  if (name.startsWith('pissa_niter'))
    return `it fits a base from which a random approximation of the largest singular values was taken, which no file holds: ${convert}`
  if (name === 'corda')
    return `it fits a base from which components chosen by data were taken, which no file holds: ${convert}`
  if (name === 'lora_ga')
    return `it fits a base from which components chosen by gradients were taken, which no file holds: ${convert}`
  if (name === 'loftq') return 'it fits the quantized weights of the base, not its own'
  if (name === 'mica') return 'its B matrices are frozen in training'
  return 'this initialization is unknown'
}

const isEmpty = (value: unknown) =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0

const isNumbers = (value: unknown): value is Record<string, number> =>
  typeof value === 'object' && value !== null && Object.values(value).every((one) => typeof one === 'number')

/** What adapter_config.json says of the adapter. */
export interface PeftConfig {
  rank: number
  alpha: number
  dropout: number
  rsLora: boolean
  dora: boolean
  rankPattern: Record<string, number>
  alphaPattern: Record<string, number>
  bias: 'none' | 'all' | 'lora_only'
  modulesToSave: readonly string[]
  /** Empty where the file leaves them to PEFT's defaults. */
  targetModules: string | readonly string[]
  excludeModules: string | readonly string[]
  /** Numbers of the layers that have updates; empty for all. */
  layers: readonly number[]
  layersPattern: readonly string[]
  ensureWeightTying: boolean
  /** Tokens whose rows are trained, by the module of the rows; '' is the token embedding. */
  trainedTokens: Readonly<Record<string, readonly number[]>>
  takenOut: 'pissa' | 'olora' | null
  /** Whether it is the adapter of a sequence classifier. */
  scored: boolean
  base: unknown
  revision: unknown
  /** Fields that choose the modules, as they were read. */
  saved: Json
}

/** Fields that choose the modules, and the initialization: an adapter that was loaded is saved with the same. */
const CHOOSING = [
  'target_modules',
  'exclude_modules',
  'layers_to_transform',
  'layers_pattern',
  'rank_pattern',
  'alpha_pattern',
  'bias',
  'modules_to_save',
  'ensure_weight_tying',
  'trainable_token_indices',
  'init_lora_weights',
]

async function readJson(path: string): Promise<Record<string, unknown>> {
  const text = await readTextIfThere(path, LIMITS.json)
  if (text !== null) return parseJsonObject(text, path)
  // PEFT saves an adapter that is not named `default` in a folder of that name.
  const inside = await adaptersIn(dirname(path))
  throw new PosttrainError(
    'ERR_INVALID_FILE',
    inside.length > 0
      ? `${path} does not exist; the folder has the adapters ${inside.join(', ')}: choose one, such as ${join(dirname(path), inside[0]!)}`
      : `${path} does not exist; an adapter is a folder with adapter_config.json and adapter_model.safetensors`,
  )
}

/** Folders with an adapter in a folder. */
async function adaptersIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  const names = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
  const found = names.map(
    async (name) => await isFile(join(folder, name, 'adapter_config.json')).catch(() => false),
  )
  const isAdapter = await Promise.all(found)
  return names.filter((_, i) => isAdapter[i])
}

/** adapter_config.json of a folder. Throws ERR_INVALID_FILE, or ERR_UNSUPPORTED_MODEL naming a field and the reason. */
export async function readPeftConfig(directory: string): Promise<PeftConfig> {
  const path = join(directory, 'adapter_config.json')
  const config = await readJson(path)
  const refuse = (field: string, because: string) =>
    new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      `${path}: ${field} ${JSON.stringify(config[field])} is not supported: ${because}`,
    )
  const invalid = (field: string, expected: string) =>
    new PosttrainError(
      'ERR_INVALID_FILE',
      `${path}: ${field} must be ${expected}, got ${JSON.stringify(config[field])}`,
    )
  if (config.peft_type !== 'LORA') throw refuse('peft_type', 'LORA is')
  for (const [field, { neutral, because }] of Object.entries(REFUSED)) {
    const value = config[field]
    if (!neutral.includes(value) && !isEmpty(value)) throw refuse(field, because)
  }
  for (const [field, value] of Object.entries(config)) {
    if (
      KNOWN.has(field) ||
      Object.hasOwn(REFUSED, field) ||
      value === null ||
      value === false ||
      isEmpty(value)
    )
      continue
    throw refuse(
      field,
      'PEFT 0.21 has no such field, and a newer one may compute otherwise with it; remove it from adapter_config.json if it only concerns training',
    )
  }
  const init = config.init_lora_weights
  if (!NEUTRAL_INITS.includes(init) && !TAKEN_OUT.includes(init))
    throw refuse('init_lora_weights', whyNot(init))
  const number = (field: string, fallback?: number) => {
    const value = config[field] ?? fallback
    if (typeof value !== 'number') throw invalid(field, 'a number')
    return value
  }
  const pattern = (field: string) => {
    const value = config[field] ?? {}
    if (!isNumbers(value)) throw invalid(field, 'an object of numbers')
    return value
  }
  const strings = (field: string) => {
    const value = config[field] ?? []
    if (!Array.isArray(value) || !value.every((item) => typeof item === 'string'))
      throw invalid(field, 'a list of names')
    return value as string[]
  }
  const names = (field: string) =>
    typeof config[field] === 'string' ? (config[field] as string) : strings(field)
  const layers = () => {
    const value = [config.layers_to_transform ?? []].flat() as unknown[]
    if (!value.every((layer) => Number.isSafeInteger(layer)))
      throw invalid('layers_to_transform', 'a layer, or a list of layers')
    return value as number[]
  }
  const tokens = () => {
    const value = config.trainable_token_indices ?? {}
    const byModule = Array.isArray(value) ? { '': value as unknown[] } : (value as Record<string, unknown>)
    const isTokens = (list: unknown) => Array.isArray(list) && list.every((id) => Number.isSafeInteger(id))
    if (typeof value !== 'object' || !Object.values(byModule).every(isTokens))
      throw invalid('trainable_token_indices', 'a list of tokens, or one for each module')
    return byModule as Record<string, number[]>
  }
  const bias = config.bias ?? 'none'
  if (bias !== 'none' && bias !== 'all' && bias !== 'lora_only')
    throw invalid('bias', 'none, all or lora_only')
  return {
    // PEFT's defaults.
    rank: number('r', 8),
    alpha: number('lora_alpha', 8),
    dropout: number('lora_dropout', 0),
    rsLora: config.use_rslora === true,
    dora: config.use_dora === true,
    rankPattern: pattern('rank_pattern'),
    alphaPattern: pattern('alpha_pattern'),
    bias,
    modulesToSave: strings('modules_to_save'),
    targetModules: names('target_modules'),
    excludeModules: names('exclude_modules'),
    layers: layers(),
    layersPattern: [names('layers_pattern')].flat().filter((name) => name !== ''),
    ensureWeightTying: config.ensure_weight_tying === true,
    trainedTokens: tokens(),
    takenOut: TAKEN_OUT.includes(init) ? (init as 'pissa' | 'olora') : null,
    scored: config.task_type === 'SEQ_CLS',
    base: config.base_model_name_or_path,
    revision: config.revision,
    saved: Object.fromEntries(
      CHOOSING.filter((field) => config[field] !== undefined).map((field) => [field, config[field]]),
    ),
  }
}

/** adapter_config.json, as PEFT writes it. */
export function peftConfig(
  config: AdapterConfig,
  of: { base: Base['source']; modelType: string; scored: boolean },
): Json {
  const { modules_to_save, ...saved } = config.saved
  const others = (modules_to_save ?? []) as string[]
  const scored = of.scored && !others.includes('score') ? [...others, 'score'] : others
  return {
    peft_type: 'LORA',
    task_type: of.scored ? 'SEQ_CLS' : 'CAUSAL_LM',
    base_model_name_or_path: of.base?.name ?? null,
    ...(of.base?.revision && { revision: of.base.revision }),
    r: config.rank,
    lora_alpha: config.alpha,
    lora_dropout: config.dropout,
    // gpt2's layers are stored transposed (Conv1D).
    fan_in_fan_out: of.modelType === 'gpt2',
    use_rslora: config.rsLora,
    use_dora: config.dora,
    init_lora_weights: true,
    ...saved,
    modules_to_save: scored.length > 0 ? scored : null,
    inference_mode: true,
  }
}
