import { CausalLM } from '../../lib/models/causal-lm.js'
import { byteTokenizer } from './tokenizers.js'

export const tinyConfig = {
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  vocab_size: 257,
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  hidden_act: 'silu',
  attention_bias: false,
  mlp_bias: false,
  tie_word_embeddings: true,
  initializer_range: 0.05,
  eos_token_id: 256,
}

/** A model of some 30 thousand parameters, the same one for the same seed. */
export function tinyModel(seed = 0): Promise<CausalLM> {
  return CausalLM.create(tinyConfig, { seed, tokenizer: byteTokenizer() })
}

/** Sums, so that there is something to learn; `from` gives others. */
export function instructionRows(count: number, from = 0): { instruction: string; output: string }[] {
  return Array.from({ length: count }, (_, i) => {
    const n = from + i
    return { instruction: `${n}+${n % 7}=?`, output: `${n + (n % 7)}${'!'.repeat(n % 5)}` }
  })
}

export async function weightsOf(model: CausalLM): Promise<Map<string, Float32Array>> {
  const weights = new Map<string, Float32Array>()
  for (const { name } of await model.parameters()) weights.set(name, (await model.getParameter(name)).values)
  return weights
}
