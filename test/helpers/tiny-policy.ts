import { CausalLM } from '../../lib/models/causal-lm.js'
import type { RewardSample } from '../../lib/rollout/rewards.js'
import type { StepBase, TrainEvent } from '../../lib/train/run/events.js'
import { characterTokenizer } from './tokenizers.js'

/** Few tokens, so that a model without training ends its responses now and then, and they are of many lengths. */
export const LETTERS = 'abcdefghi'
export const EOS = LETTERS.length
export const tokenizer = characterTokenizer(LETTERS)
export const idsOf = (text: string) =>
  [...text].map((letter) => (letter === '.' ? EOS : LETTERS.indexOf(letter)))

/** `<eos>` is the pad token too, as with many models. */
export const policyConfig = {
  model_type: 'llama',
  architectures: ['LlamaForCausalLM'],
  vocab_size: LETTERS.length + 1,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  max_position_embeddings: 48,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: true,
  initializer_range: 0.3,
  eos_token_id: EOS,
  pad_token_id: EOS,
}

export function tinyPolicy(seed = 0): Promise<CausalLM> {
  return CausalLM.create(policyConfig, { seed, tokenizer, device: 'cpu' })
}

/** Prompts of one to five tokens, each with a letter that its responses shall hold. */
export interface Wish {
  prompt: string
  wish: string
}
export const wishes: Wish[] = ['a', 'bc', 'dab', 'eeeee', 'gh', 'i', 'fab'].map((prompt, i) => ({
  prompt,
  wish: LETTERS[i]!,
}))

/** How often a response holds its prompt's letter, by its length. */
export function wished(samples: readonly RewardSample<Wish>[]): number[] {
  return samples.map(({ text, row, tokenIds }) => text.split(row.wish).length - 1 - 0.1 * tokenIds.length)
}

/** Events without what depends on the clock. */
export function numbersOf(events: readonly TrainEvent<StepBase, never, unknown>[]): object[] {
  return events
    .filter(({ type }) => type === 'step' || type === 'sample' || type === 'warning')
    .map((event) => ({ ...event, tokensPerSecond: 0, seconds: null }))
}
