// adapter_config.json of PEFT 0.21: what it asks for, what is refused and why, and how it is written.
import { join } from 'node:path'
import { PosttrainError } from '../errors.js'
import { LIMITS, parseJsonObject, readTextIfThere } from '../files/read.js'
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
  targetModules: string | readonly string[]
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
  throw new PosttrainError(
    'ERR_INVALID_FILE',
    `${path} does not exist; an adapter is a folder with adapter_config.json and adapter_model.safetensors`,
  )
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
    rank: number('r'),
    alpha: number('lora_alpha'),
    dropout: number('lora_dropout', 0),
    rsLora: config.use_rslora === true,
    dora: config.use_dora === true,
    rankPattern: pattern('rank_pattern'),
    alphaPattern: pattern('alpha_pattern'),
    bias,
    modulesToSave: strings('modules_to_save'),
    targetModules:
      typeof config.target_modules === 'string' ? config.target_modules : strings('target_modules'),
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
