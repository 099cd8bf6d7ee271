import type { PromptItem } from '../data/index.js'
import { generate } from '../generate/generate.js'
import type { CausalLM } from '../models/causal-lm.js'

/** A prompt with the policy's response. */
export interface Response {
  prompt: PromptItem
  /** Tokens of the response, at least one; the stop token included, nothing after it. */
  tokenIds: Int32Array
  /** Log-probability of each token when it was sampled, under softmax(logits / temperature). */
  sampledLogProbs: Float32Array
  /** Text of the response, without special tokens. */
  text: string
  /** Its last token is a stop token; else it reached maxNewTokens. */
  stopped: boolean
}

export interface RolloutOptions {
  temperature: number
  maxNewTokens: number
  /** Responses that are sampled together; all by default. */
  rolloutBatchSize?: number | undefined
  /** Seed of the sampling. */
  seed: number
  signal?: AbortSignal | undefined
}

/**
 * Samples one response to each prompt from the current policy, by temperature alone: top-k, penalties or stop texts
 * would make the sampled log-probabilities those of another policy.
 */
export async function rollout(
  model: CausalLM,
  prompts: readonly PromptItem[],
  options: RolloutOptions,
): Promise<Response[]> {
  const { temperature, maxNewTokens, rolloutBatchSize: batchSize = prompts.length, seed, signal } = options
  const completions = await generate(
    model,
    prompts.map(({ promptIds }) => promptIds),
    { temperature, maxNewTokens, batchSize, seed, logProbs: true, ...(signal && { signal }) },
  )
  return completions.map(({ text, tokenIds, finishReason, logProbs }, i) => ({
    prompt: prompts[i]!,
    tokenIds,
    sampledLogProbs: logProbs!,
    text,
    stopped: finishReason === 'stop',
  }))
}
