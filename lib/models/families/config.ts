import type { RopeSpec } from '../../addon/addon.js'
import { PosttrainError } from '../../errors.js'
import { quantizationIn } from '../quantization.js'

/** A parsed config.json. */
export type HfConfig = Record<string, unknown>

function wrong(config: HfConfig, name: string, expected: string): PosttrainError {
  const value = config[name]
  const got = value === undefined ? 'it is missing' : `got ${JSON.stringify(value)}`
  return new PosttrainError('ERR_UNSUPPORTED_MODEL', `config.json: ${name} must be ${expected}, ${got}`)
}

/** Limit that guards memory: no model has as many layers. */
const MAX_LAYERS = 10_000

export function layerCount(config: HfConfig, name: string): number {
  const layers = integer(config, name)
  if (layers > MAX_LAYERS) throw wrong(config, name, `a whole number of at most ${MAX_LAYERS}`)
  return layers
}

/** A whole number of at least `min`; `fallback` if the field is absent or null. */
export function integer(config: HfConfig, name: string, fallback?: number, min = 1): number {
  const value = config[name] ?? fallback
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > 2 ** 31) {
    throw wrong(config, name, `a whole number of at least ${min}`)
  }
  return value
}

export function positive(config: HfConfig, name: string, fallback?: number): number {
  const value = config[name] ?? fallback
  if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0)
    throw wrong(config, name, 'a number above 0')
  return value
}

export function flag(config: HfConfig, name: string, fallback: boolean): boolean {
  const value = config[name] ?? fallback
  if (typeof value !== 'boolean') throw wrong(config, name, 'true or false')
  return value
}

/** Activations by their names in config.json. */
const ACTIVATIONS = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_new: 'geluTanh',
  gelu_pytorch_tanh: 'geluTanh',
  relu: 'relu',
} as const

export function activation(config: HfConfig, name: string, fallback: keyof typeof ACTIVATIONS) {
  const value = config[name] ?? fallback
  if (typeof value === 'string' && Object.hasOwn(ACTIVATIONS, value))
    return ACTIVATIONS[value as keyof typeof ACTIVATIONS]
  throw wrong(config, name, `one of ${Object.keys(ACTIVATIONS).join(', ')}`)
}

/** Unsupported fields of any family that change the arithmetic: each must be absent or have a neutral value. */
const NEUTRAL: Record<string, readonly unknown[]> = {
  attn_logit_softcapping: [],
  final_logit_softcapping: [],
  query_pre_attn_scalar: [],
  embedding_multiplier: [1],
  residual_multiplier: [1],
  attention_multiplier: [],
  logits_scaling: [1],
  partial_rotary_factor: [1],
  num_experts: [0],
  num_local_experts: [0],
  n_routed_experts: [0],
  no_rope_layers: [],
  add_cross_attention: [false],
  is_encoder_decoder: [false],
  pretraining_tp: [1],
}

/** Throws ERR_UNSUPPORTED_MODEL for weights quantized in another way than NF4, or naming the first field, except those in `read`, whose value changes the arithmetic. */
export function refuseFields(
  config: HfConfig,
  more: Record<string, readonly unknown[]> = {},
  read: readonly string[] = [],
): void {
  quantizationIn(config)
  for (const [name, neutral] of Object.entries({ ...NEUTRAL, ...more })) {
    if (read.includes(name)) continue
    const value = config[name]
    if (value === undefined || value === null || neutral.includes(value)) continue
    throw new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      `config.json: ${name} = ${JSON.stringify(value)} changes the arithmetic and is not supported`,
    )
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/**
 * Reads the rotary embedding in either format: `rope_theta` + `rope_scaling { type | rope_type }`, or
 * `rope_parameters`, which takes precedence and must agree on theta.
 */
export function rope(config: HfConfig, fallbackTheta = 10000): RopeSpec {
  const newer = config.rope_parameters
  const older = config.rope_scaling
  const fields = isObject(newer) ? newer : isObject(older) ? older : {}
  if (Object.values(fields).some(isObject)) {
    throw new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      'config.json: rope_parameters by layer type are not supported',
    )
  }
  const theta = positive({ rope_theta: fields.rope_theta ?? config.rope_theta }, 'rope_theta', fallbackTheta)
  if (isObject(newer) && typeof config.rope_theta === 'number' && config.rope_theta !== theta) {
    throw new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      `config.json: rope_theta is ${config.rope_theta} and rope_parameters.rope_theta is ${theta}; they must agree`,
    )
  }
  refuseFields(fields, {})
  const kind: unknown = fields.rope_type ?? fields.type ?? 'default'
  const optional = (name: string) =>
    fields[name] === undefined || fields[name] === null ? undefined : positive(fields, name)
  const original =
    optional('original_max_position_embeddings') ?? integer(config, 'max_position_embeddings', 2048)
  switch (kind) {
    case 'default':
      return { kind: 'default', theta }
    case 'linear':
      return { kind: 'linear', theta, factor: positive(fields, 'factor') }
    case 'llama3':
      return {
        kind: 'llama3',
        theta,
        factor: positive(fields, 'factor'),
        lowFreqFactor: positive(fields, 'low_freq_factor'),
        highFreqFactor: positive(fields, 'high_freq_factor'),
        originalMaxPositions: original,
      }
    case 'yarn': {
      const spec: RopeSpec = {
        kind: 'yarn',
        theta,
        factor: positive(fields, 'factor'),
        originalMaxPositions: original,
      }
      const betaFast = optional('beta_fast')
      const betaSlow = optional('beta_slow')
      const attentionFactor = optional('attention_factor')
      const mscale = optional('mscale')
      const mscaleAllDim = optional('mscale_all_dim')
      if (betaFast !== undefined) spec.betaFast = betaFast
      if (betaSlow !== undefined) spec.betaSlow = betaSlow
      if (attentionFactor !== undefined) spec.attentionFactor = attentionFactor
      if (mscale !== undefined) spec.mscale = mscale
      if (mscaleAllDim !== undefined) spec.mscaleAllDim = mscaleAllDim
      spec.truncate = flag(fields, 'truncate', true)
      return spec
    }
    default:
      throw new PosttrainError(
        'ERR_UNSUPPORTED_MODEL',
        `config.json: rope_type ${JSON.stringify(kind)} is not supported (default, linear, llama3, yarn are)`,
      )
  }
}

/** Writes the rotary fields in both formats, for tools that read only one. */
export function writeRope(config: HfConfig): HfConfig {
  const { theta, kind } = rope(config)
  const newer = config.rope_parameters
  const older = config.rope_scaling
  const fields: Record<string, unknown> = isObject(newer) ? { ...newer } : isObject(older) ? { ...older } : {}
  fields.rope_type = kind
  fields.rope_theta = theta
  const { rope_theta: _, ...scaling } = fields
  return {
    ...config,
    rope_theta: theta,
    rope_scaling: kind === 'default' ? null : { ...scaling, type: kind },
    rope_parameters: fields,
  }
}
