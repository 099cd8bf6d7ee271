import { derivedHeadDim, llamaLike, qwenWindows } from './llama-like.js'

/** Qwen 2 and 2.5: always biases on q, k and v; `sliding_window` applies only with `use_sliding_window`. */
export const qwen2 = llamaLike({
  modelType: 'qwen2',
  architecture: 'Qwen2ForCausalLM',
  qkvBias: () => true,
  outBias: () => false,
  mlpBias: () => false,
  qkNorm: false,
  headDim: derivedHeadDim,
  windows: qwenWindows,
})
