import type { PromptItem } from '../data/index.js'
import { generate } from '../generate/generate.js'
import type { CausalLM } from '../models/causal-lm.js'

/** A prompt and what the policy answered. */
export interface Response {
  prompt: PromptItem
  /** At least one; the stop token included, nothing after it. */
  tokenIds: Int32Array
  /** Of each token when it was drawn, under softmax(logits / temperature). */
  sampledLogProbs: Float32Array
  /** Without special tokens. */
  text: string
  /** Its last token is a stop token; else it ran into maxNewTokens. */
  stopped: boolean
}

export interface RolloutOptions {
  temperature: number
  maxNewTokens: number
  /** Decides the draws. */
  seed: number
  signal?: AbortSignal | undefined
}

/**
 * One answer to each prompt, drawn from the policy as it is: by temperature alone, since what cuts or bends the
 * distribution (top-k, penalties, stop texts) would make the sampled log-probabilities those of another policy.
 */
export async function rollout(
  model: CausalLM,
  prompts: readonly PromptItem[],
  options: RolloutOptions,
): Promise<Response[]> {
  const { temperature, maxNewTokens, seed, signal } = options
  const completions = await generate(
    model,
    prompts.map(({ promptIds }) => promptIds),
    { temperature, maxNewTokens, seed, logProbs: true, ...(signal && { signal }) },
  )
  return completions.map(({ text, tokenIds, finishReason, logProbs }, i) => ({
    prompt: prompts[i]!,
    tokenIds,
    sampledLogProbs: logProbs!,
    text,
    stopped: finishReason === 'stop',
  }))
}
