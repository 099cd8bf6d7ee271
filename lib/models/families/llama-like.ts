import type { DecoderSpec, LayerSpec, RopeSpec, WeightMapEntry } from '../../addon/addon.js'
import { PosttrainError } from '../../errors.js'
import {
  activation,
  flag,
  type HfConfig,
  integer,
  layerCount,
  positive,
  refuseFields,
  rope,
  writeRope,
} from './config.js'
import type { Family } from './family.js'

/** The differences between families derived from llama. */
export interface LlamaLike {
  modelType: string
  architecture: string
  /** Default: the architecture's name with ForSequenceClassification. */
  classifier?: string
  qkvBias(config: HfConfig): boolean
  outBias(config: HfConfig): boolean
  mlpBias(config: HfConfig): boolean
  qkNorm: boolean
  headDim(config: HfConfig): number
  /** Attention window of each layer; null is full attention. */
  windows(config: HfConfig, layers: number): (number | null)[]
  /** Transformers' defaults for fields missing from config.json, if they differ from llama's. */
  defaults?: HfConfig
  /** Fields that this family reads and others refuse. */
  reads?: readonly string[]
  /** Further unsupported fields of this family that change the arithmetic, and their neutral values. */
  neutral?: Record<string, readonly unknown[]>
  /** Rotation of each layer; default: the config's for all. */
  ropes?(config: HfConfig, layers: number): RopeSpec[]
  /** Layer options that llama does not have. */
  layer?(config: HfConfig): Pick<LayerSpec, 'postNorm' | 'attentionScale'>
  /** Decoder options that llama does not have. */
  decoder?(config: HfConfig): Pick<DecoderSpec, 'embeddingMultiplier' | 'logitSoftCap'>
  normOffset?: boolean
  /** Name of the activation's field; default: hidden_act. */
  activationField?: string
  /** config.json as it is saved; default: the rotary fields in both formats. */
  writeConfig?(config: HfConfig): HfConfig
}

/** head_dim, by default hidden_size / num_attention_heads. */
export function derivedHeadDim(config: HfConfig): number {
  const heads = integer(config, 'num_attention_heads')
  const hidden = integer(config, 'hidden_size')
  if ((config.head_dim ?? null) === null && hidden % heads !== 0) {
    throw new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      `config.json: hidden_size ${hidden} is not a multiple of num_attention_heads ${heads}, and there is no head_dim`,
    )
  }
  return integer(config, 'head_dim', Math.floor(hidden / heads))
}

/** Qwen's windows: `layer_types`, else layers from max_window_layers on; only with use_sliding_window. */
export function qwenWindows(config: HfConfig, layers: number): (number | null)[] {
  const types = config.layer_types ?? null
  const window = flag(config, 'use_sliding_window', false) ? integer(config, 'sliding_window', 4096) : null
  if (types !== null) {
    if (!Array.isArray(types) || types.length !== layers) {
      throw new PosttrainError('ERR_UNSUPPORTED_MODEL', `config.json: layer_types must name ${layers} layers`)
    }
    return types.map((type: unknown) => {
      if (type === 'full_attention') return null
      if (type === 'sliding_attention' && window !== null) return window
      throw new PosttrainError(
        'ERR_UNSUPPORTED_MODEL',
        `config.json: layer_types has ${JSON.stringify(type)}, which is not supported with these fields`,
      )
    })
  }
  const from = integer(config, 'max_window_layers', 28, 0)
  return Array.from({ length: layers }, (_, i) => (window !== null && i >= from ? window : null))
}

function layerWeights(spec: LayerSpec, i: number): WeightMapEntry[] {
  const at = `model.layers.${i}.`
  const to = `layers.${i}.`
  const q = spec.heads * spec.headDim
  const kv = spec.kvHeads * spec.headDim
  const inner = spec.mlp.intermediateSize
  const linear = (
    file: string,
    parameter: string,
    bias: boolean,
    rows?: [number, number],
  ): WeightMapEntry[] =>
    (bias ? ['weight', 'bias'] : ['weight']).map((part) => ({
      name: `${at}${file}.${part}`,
      parameter: `${to}${parameter}.${part}`,
      ...(rows === undefined ? {} : { rows }),
    }))
  return [
    { name: `${at}input_layernorm.weight`, parameter: `${to}attentionNorm.weight` },
    ...linear('self_attn.q_proj', 'qkv', spec.qkvBias, [0, q]),
    ...linear('self_attn.k_proj', 'qkv', spec.qkvBias, [q, kv]),
    ...linear('self_attn.v_proj', 'qkv', spec.qkvBias, [q + kv, kv]),
    ...(spec.qkNorm
      ? [
          { name: `${at}self_attn.q_norm.weight`, parameter: `${to}qNorm.weight` },
          { name: `${at}self_attn.k_norm.weight`, parameter: `${to}kNorm.weight` },
        ]
      : []),
    ...linear('self_attn.o_proj', 'out', spec.outBias),
    // With output norms, post_attention_layernorm normalizes the output of attention, not the input of the MLP.
    ...(spec.postNorm
      ? [
          { name: `${at}post_attention_layernorm.weight`, parameter: `${to}attentionPostNorm.weight` },
          { name: `${at}pre_feedforward_layernorm.weight`, parameter: `${to}mlpNorm.weight` },
          { name: `${at}post_feedforward_layernorm.weight`, parameter: `${to}mlpPostNorm.weight` },
        ]
      : [{ name: `${at}post_attention_layernorm.weight`, parameter: `${to}mlpNorm.weight` }]),
    ...linear('mlp.gate_proj', 'up', spec.mlp.bias, [0, inner]),
    ...linear('mlp.up_proj', 'up', spec.mlp.bias, [inner, inner]),
    ...linear('mlp.down_proj', 'down', spec.mlp.bias),
  ]
}

/** A family with RMSNorm, a gated MLP, rotary positions and grouped-query attention. */
export function llamaLike(family: LlamaLike): Family {
  const complete = (config: HfConfig): HfConfig => ({ ...family.defaults, ...config })
  return {
    modelType: family.modelType,
    architecture: family.architecture,
    classifier: family.classifier ?? family.architecture.replace(/ForCausalLM$/, 'ForSequenceClassification'),
    prefix: 'model.',
    ignore: [/rotary_emb\.inv_freq$/],
    decoder(given) {
      const config = complete(given)
      refuseFields(config, family.neutral, family.reads)
      const layers = layerCount(config, 'num_hidden_layers')
      const heads = integer(config, 'num_attention_heads')
      const kvHeads = integer(config, 'num_key_value_heads', heads)
      if (heads % kvHeads !== 0) {
        throw new PosttrainError(
          'ERR_UNSUPPORTED_MODEL',
          `config.json: num_attention_heads ${heads} is not a multiple of num_key_value_heads ${kvHeads}`,
        )
      }
      const headDim = family.headDim(config)
      if (headDim % 2 !== 0) {
        throw new PosttrainError(
          'ERR_UNSUPPORTED_MODEL',
          `config.json: head_dim must be even, got ${headDim}`,
        )
      }
      const shared = {
        heads,
        kvHeads,
        headDim,
        qkvBias: family.qkvBias(config),
        outBias: family.outBias(config),
        qkNorm: family.qkNorm,
        ...family.layer?.(config),
        mlp: {
          kind: 'gated' as const,
          activation: activation(config, family.activationField ?? 'hidden_act', 'silu'),
          intermediateSize: integer(config, 'intermediate_size'),
          bias: family.mlpBias(config),
        },
      }
      const ropes = family.ropes?.(config, layers) ?? Array<RopeSpec>(layers).fill(rope(config))
      return {
        vocabSize: integer(config, 'vocab_size'),
        hiddenSize: integer(config, 'hidden_size'),
        learnedPositions: null,
        ...(typeof config.pad_token_id === 'number' && { paddingId: config.pad_token_id }),
        norm: {
          kind: 'rms',
          eps: positive(config, 'rms_norm_eps', 1e-6),
          ...(family.normOffset && { offset: true }),
        },
        ...family.decoder?.(config),
        tied: flag(config, 'tie_word_embeddings', false),
        layers: family.windows(config, layers).map((window, i) => ({ ...shared, window, rope: ropes[i]! })),
      }
    },
    weights(spec: DecoderSpec) {
      return [
        { name: 'model.embed_tokens.weight', parameter: 'embed.weight' },
        ...spec.layers.flatMap(layerWeights),
        { name: 'model.norm.weight', parameter: 'norm.weight' },
        ...(spec.tied ? [] : [{ name: 'lm_head.weight', parameter: 'head.weight' }]),
      ]
    },
    initialization: (config) => ({ std: positive(config, 'initializer_range', 0.02), residualScale: 1 }),
    contextLength: (config) => integer(complete(config), 'max_position_embeddings', 2048),
    writeConfig: (config) => (family.writeConfig ?? writeRope)(complete(config)),
  }
}
