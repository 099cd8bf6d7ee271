import { integer } from './config.js'
import { derivedHeadDim, llamaLike } from './llama-like.js'

/** Mistral: llama without biases; a sliding window in all layers, 4096 if the field is absent, none if it is null. */
export const mistral = llamaLike({
  modelType: 'mistral',
  architecture: 'MistralForCausalLM',
  qkvBias: () => false,
  outBias: () => false,
  mlpBias: () => false,
  qkNorm: false,
  headDim: derivedHeadDim,
  windows: (config, layers) => {
    const window = config.sliding_window === null ? null : integer(config, 'sliding_window', 4096)
    return Array.from({ length: layers }, () => window)
  },
})
