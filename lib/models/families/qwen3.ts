import { flag, integer } from './config.js'
import { llamaLike, qwenWindows } from './llama-like.js'

/** Qwen 3: RMSNorm on each head of q and k before the rotation; head_dim is its own field, 128 by default. */
export const qwen3 = llamaLike({
  modelType: 'qwen3',
  architecture: 'Qwen3ForCausalLM',
  qkvBias: (config) => flag(config, 'attention_bias', false),
  outBias: (config) => flag(config, 'attention_bias', false),
  mlpBias: () => false,
  qkNorm: true,
  headDim: (config) => integer(config, 'head_dim', 128),
  windows: qwenWindows,
})
