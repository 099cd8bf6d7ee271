import type { DecoderSpec, WeightMapEntry } from '../../addon/addon.js'
import { PosttrainError } from '../../errors.js'
import { activation, flag, integer, layerCount, positive, refuseFields } from './config.js'
import type { Family } from './family.js'

/** GPT-2: LayerNorm, learned positions, fused and transposed projections (Conv1D), a plain MLP, tied embeddings. */
export const gpt2: Family = {
  modelType: 'gpt2',
  architecture: 'GPT2LMHeadModel',
  classifier: 'GPT2ForSequenceClassification',
  prefix: 'transformer.',
  // The causal mask, which old versions stored.
  ignore: [/\.attn\.(masked_)?bias$/],
  decoder(config) {
    refuseFields(config, {
      scale_attn_weights: [true],
      scale_attn_by_inverse_layer_idx: [false],
      reorder_and_upcast_attn: [false],
    })
    const hiddenSize = integer(config, 'n_embd')
    const heads = integer(config, 'n_head')
    if (hiddenSize % heads !== 0) {
      throw new PosttrainError(
        'ERR_UNSUPPORTED_MODEL',
        `config.json: n_embd ${hiddenSize} is not a multiple of n_head ${heads}`,
      )
    }
    const layer = {
      heads,
      kvHeads: heads,
      headDim: hiddenSize / heads,
      qkvBias: true,
      outBias: true,
      qkNorm: false,
      window: null,
      rope: null,
      mlp: {
        kind: 'plain' as const,
        activation: activation(config, 'activation_function', 'gelu_new'),
        intermediateSize: integer(config, 'n_inner', 4 * hiddenSize),
        bias: true,
      },
    }
    return {
      vocabSize: integer(config, 'vocab_size'),
      hiddenSize,
      learnedPositions: integer(config, 'n_positions', 1024),
      norm: { kind: 'layer', eps: positive(config, 'layer_norm_epsilon', 1e-5) },
      tied: flag(config, 'tie_word_embeddings', true),
      layers: Array.from({ length: layerCount(config, 'n_layer') }, () => layer),
    }
  },
  weights(spec: DecoderSpec): WeightMapEntry[] {
    const both = (name: string, parameter: string, transpose = false): WeightMapEntry[] => [
      { name: `${name}.weight`, parameter: `${parameter}.weight`, ...(transpose ? { transpose } : {}) },
      { name: `${name}.bias`, parameter: `${parameter}.bias` },
    ]
    return [
      { name: 'transformer.wte.weight', parameter: 'embed.weight' },
      { name: 'transformer.wpe.weight', parameter: 'positions.weight' },
      ...spec.layers.flatMap((_, i) => [
        ...both(`transformer.h.${i}.ln_1`, `layers.${i}.attentionNorm`),
        ...both(`transformer.h.${i}.attn.c_attn`, `layers.${i}.qkv`, true),
        ...both(`transformer.h.${i}.attn.c_proj`, `layers.${i}.out`, true),
        ...both(`transformer.h.${i}.ln_2`, `layers.${i}.mlpNorm`),
        ...both(`transformer.h.${i}.mlp.c_fc`, `layers.${i}.up`, true),
        ...both(`transformer.h.${i}.mlp.c_proj`, `layers.${i}.down`, true),
      ]),
      ...both('transformer.ln_f', 'norm'),
      ...(spec.tied ? [] : [{ name: 'lm_head.weight', parameter: 'head.weight' }]),
    ]
  },
  // Radford et al. 2019: residual projections are scaled by 1 / sqrt(2 layers).
  initialization: (config) => ({
    std: positive(config, 'initializer_range', 0.02),
    residualScale: 1 / Math.sqrt(2 * integer(config, 'n_layer')),
  }),
  contextLength: (config) => integer(config, 'n_positions', 1024),
  writeConfig: (config) => config,
}
