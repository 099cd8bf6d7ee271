import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { Tokenizer } from '../../lib/data/text/tokenizer.js'
import { CausalLM } from '../../lib/models/causal-lm.js'

/** A tokenizer whose 256 tokens are the bytes, and `<eos>`. */
export function byteTokenizer(): Tokenizer {
  const vocab: Record<string, number> = {}
  let next = 256
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
    vocab[String.fromCodePoint(printable ? byte : next++)] = byte
  }
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }
  const eos = {
    id: 256,
    content: '<eos>',
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }
  return Tokenizer.fromFiles({
    tokenizerJson: JSON.stringify({
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: [eos],
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: null,
      decoder: byteLevel,
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        vocab,
        merges: [],
      },
    }),
    tokenizerConfig: JSON.stringify({ eos_token: '<eos>', tokenizer_class: 'PreTrainedTokenizerFast' }),
  })
}

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

/** A path that does not exist yet, removed after the test. */
export function cleanFolder(t: Pick<ExecutionContext, 'teardown'>): string {
  const parent = mkdtempSync(join(tmpdir(), 'posttrain-train-'))
  t.teardown(() => rmSync(parent, { recursive: true, force: true }))
  return join(parent, 'run')
}
