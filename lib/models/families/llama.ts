import { flag } from './config.js'
import { derivedHeadDim, llamaLike } from './llama-like.js'

/** Llama 2 and 3, SmolLM2, TinyLlama, Yi: no biases unless the config sets them. */
export const llama = llamaLike({
  modelType: 'llama',
  architecture: 'LlamaForCausalLM',
  qkvBias: (config) => flag(config, 'attention_bias', false),
  outBias: (config) => flag(config, 'attention_bias', false),
  mlpBias: (config) => flag(config, 'mlp_bias', false),
  qkNorm: false,
  headDim: derivedHeadDim,
  windows: (_, layers) => Array.from({ length: layers }, () => null),
})
