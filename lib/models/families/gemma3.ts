import type { RopeSpec } from '../../addon/addon.js'
import { PosttrainError } from '../../errors.js'
import { flag, type HfConfig, integer, isObject, positive, rope } from './config.js'
import { llamaLike } from './llama-like.js'

/** gemma3's two kinds of layers, which differ in window and rotation. */
const SLIDING = 'sliding_attention'
const FULL = 'full_attention'

/** `layer_types`; by default all layers have a sliding window but every `sliding_window_pattern`-th. */
function layerTypes(config: HfConfig, layers: number): string[] {
  const types = config.layer_types ?? null
  if (types === null) {
    const pattern = integer(config, 'sliding_window_pattern', 6)
    return Array.from({ length: layers }, (_, i) => ((i + 1) % pattern === 0 ? FULL : SLIDING))
  }
  if (
    Array.isArray(types) &&
    types.length === layers &&
    types.every((type) => [SLIDING, FULL].includes(type))
  )
    return types
  throw new PosttrainError(
    'ERR_UNSUPPORTED_MODEL',
    `config.json: layer_types must name ${layers} layers, each ${SLIDING} or ${FULL}`,
  )
}

/**
 * Rotation of the two kinds of layers: `rope_parameters` by layer type, or `rope_theta` with `rope_scaling` for the
 * full layers and `rope_local_base_freq` for the sliding ones. As in transformers, `rope_scaling` overrides the former.
 */
function ropes(config: HfConfig): { sliding: RopeSpec; full: RopeSpec } {
  const { rope_parameters: newer, rope_scaling: older, rope_theta, rope_local_base_freq, ...rest } = config
  const nested = isObject(newer) ? newer : {}
  const fieldsOf = (type: string) => (isObject(nested[type]) ? nested[type] : {})
  if (Object.values(nested).some((value) => value !== null && !isObject(value))) {
    throw new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      `config.json: rope_parameters must have an object for each of ${SLIDING} and ${FULL}`,
    )
  }
  const scaling = isObject(older) ? older : {}
  // Transformers ignores the older field name `type` here, so the two would compute different models.
  if (scaling.rope_type === undefined && scaling.type !== undefined) {
    throw new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      'config.json: rope_scaling has type and no rope_type, which transformers does not read for gemma3_text',
    )
  }
  const full = { ...fieldsOf(FULL), ...scaling }
  return {
    sliding: rope({ ...rest, rope_theta: rope_local_base_freq, rope_parameters: fieldsOf(SLIDING) }, 10_000),
    full: rope({ ...rest, rope_theta, rope_parameters: full }, 1_000_000),
  }
}

/** Both formats of the rotary fields, with the layer types written out. */
function writeConfig(config: HfConfig): HfConfig {
  const { sliding, full } = ropes(config)
  const nested = isObject(config.rope_parameters) ? config.rope_parameters : {}
  const scaling = isObject(config.rope_scaling) ? config.rope_scaling : {}
  const fieldsOf = (type: string) => (isObject(nested[type]) ? nested[type] : {})
  const { rope_theta: _, ...scaled } = { ...fieldsOf(FULL), ...scaling, rope_type: full.kind } as HfConfig
  return {
    ...config,
    rope_theta: full.theta,
    rope_local_base_freq: sliding.theta,
    rope_scaling: full.kind === 'default' ? null : scaled,
    rope_parameters: {
      [SLIDING]: { ...fieldsOf(SLIDING), rope_type: sliding.kind, rope_theta: sliding.theta },
      [FULL]: { ...scaled, rope_theta: full.theta },
    },
    layer_types: layerTypes(config, integer(config, 'num_hidden_layers')),
  }
}

/**
 * Gemma 3, text: four norms per layer that multiply by 1 + w, embeddings times sqrt(hidden size), a norm on each head
 * of q and k, and sliding-window layers with their own rotation (arXiv 2503.19786).
 */
export const gemma3 = llamaLike({
  modelType: 'gemma3_text',
  architecture: 'Gemma3ForCausalLM',
  classifier: 'Gemma3TextForSequenceClassification',
  defaults: {
    num_key_value_heads: 4,
    head_dim: 256,
    hidden_activation: 'gelu_pytorch_tanh',
    query_pre_attn_scalar: 256,
    sliding_window: 4096,
    pad_token_id: 0,
    tie_word_embeddings: true,
    max_position_embeddings: 131_072,
  },
  reads: ['query_pre_attn_scalar', 'final_logit_softcapping'],
  neutral: { use_bidirectional_attention: [false] },
  activationField: 'hidden_activation',
  qkvBias: (config) => flag(config, 'attention_bias', false),
  outBias: (config) => flag(config, 'attention_bias', false),
  mlpBias: () => false,
  qkNorm: true,
  headDim: (config) => integer(config, 'head_dim'),
  windows: (config, layers) =>
    layerTypes(config, layers).map((type) => (type === SLIDING ? integer(config, 'sliding_window') : null)),
  ropes: (config, layers) => {
    const { sliding, full } = ropes(config)
    return layerTypes(config, layers).map((type) => (type === SLIDING ? sliding : full))
  },
  layer: (config) => ({
    postNorm: true,
    attentionScale: positive(config, 'query_pre_attn_scalar') ** -0.5,
  }),
  decoder: (config) => ({
    embeddingMultiplier: Math.sqrt(integer(config, 'hidden_size')),
    ...((config.final_logit_softcapping ?? null) !== null && {
      logitSoftCap: positive(config, 'final_logit_softcapping'),
    }),
  }),
  normOffset: true,
  writeConfig,
})
