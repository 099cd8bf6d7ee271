import type { Message, PromptItem } from '../data/index.js'
import { AbortError, PosttrainError } from '../errors.js'
import type { CausalLM } from '../models/causal-lm.js'
import { RewardModel } from '../models/reward-model.js'
import type { Response } from './rollout.js'

/** What a reward function sees of one answer. `row` is the prompt's row with all its own columns. */
export interface RewardSample<Row = Record<string, unknown>> {
  /** What a person reads: the text of the prompt, or what the last user said. */
  prompt: string
  /** The conversation, where the prompt is one. */
  messages: readonly Message[] | null
  /** The answer, without special tokens. */
  text: string
  promptIds: Int32Array
  /** Ids of the answer, its stop token included. */
  tokenIds: Int32Array
  /** `length`: it ran into maxNewTokens. */
  stopReason: 'stop' | 'length'
  row: Row
}

/** One number for each sample, higher is better. */
export type RewardFunction<Row = Record<string, unknown>> = (
  samples: readonly RewardSample<Row>[],
) => readonly number[] | Promise<readonly number[]>

/** A reward model, a function, or several of them, each with its weight. */
export type Reward<Row = Record<string, unknown>> =
  | RewardModel
  | RewardFunction<Row>
  | readonly { reward: RewardModel | RewardFunction<Row>; weight?: number; name?: string }[]

/** One source of rewards, ready to be asked. */
export interface RewardSource {
  name: string
  weight: number
  reward: RewardModel | RewardFunction
}

/** Checks what was given as `reward`; ERR_INVALID_ARGUMENT for a model with another tokenizer than the policy's. */
export function rewardSources(reward: Reward<never>, policy: CausalLM): RewardSource[] {
  const list = Array.isArray(reward) ? reward : [{ reward }]
  if (list.length === 0) throw invalid('reward must not be empty')
  const names = new Set<string>()
  const sources = list.map(
    (item: { reward: RewardModel | RewardFunction; weight?: number; name?: string }, i) => {
      const { reward: source, weight = 1 } = item
      const own = typeof source === 'function' ? source.name : 'model'
      const known = item.name ?? (own === '' || own === 'reward' ? `reward ${i + 1}` : own)
      // Metrics tell sources apart by their names.
      const name = names.has(known) ? `${known} ${i + 1}` : known
      names.add(name)
      if (!Number.isFinite(weight))
        throw invalid(`the weight of ${name} must be a finite number, got ${weight}`)
      if (typeof source !== 'function' && !(source instanceof RewardModel)) {
        throw invalid(`${name} must be a RewardModel or a function`)
      }
      return { name, weight, reward: source }
    },
  )
  for (const { name, reward: source } of sources) {
    if (source instanceof RewardModel) refuseOtherTokens(source, policy, name)
  }
  return sources
}

/** Throws ERR_INVALID_ARGUMENT for a model with another tokenizer than the policy's. */
export function refuseOtherTokens(model: RewardModel, policy: CausalLM, what: string): void {
  if (sameTokens(model, policy)) return
  throw invalid(
    `${what} has another tokenizer than the model that is trained: its scores of these ids would mean nothing; take one of the same family, or as a reward give a function that asks it with text`,
  )
}

function sameTokens(reward: RewardModel, policy: CausalLM): boolean {
  if (reward.tokenizer === policy.tokenizer) return true
  const vocabulary = (json: string) => {
    const { model, added_tokens: added } = JSON.parse(json) as {
      model: { vocab?: unknown }
      added_tokens: { id: number; content: string }[]
    }
    return JSON.stringify([model.vocab, added.map(({ id, content }) => [id, content])])
  }
  const [a, b] = [reward.tokenizer.files.tokenizerJson, policy.tokenizer.files.tokenizerJson]
  return a === b || vocabulary(a) === vocabulary(b)
}

export interface RewardOptions {
  /** A function that takes longer than this has failed. */
  timeoutMs: number
  /** Tokens of one forward of a reward model at most. */
  batchTokens: number
  signal?: AbortSignal | undefined
}

/** Scores of B responses: the weighted sum of all sources, and what each source gave, [B]. */
export interface Scores {
  total: Float64Array
  bySource: Record<string, Float64Array>
}

/**
 * Asks every source. A function that throws, takes too long, or gives another number of values, or one that is not a
 * finite number, is an ERR_INVALID_ARGUMENT that names it; what it threw is the cause.
 */
export async function scoresOf(
  sources: readonly RewardSource[],
  responses: readonly Response[],
  options: RewardOptions,
): Promise<Scores> {
  const total = new Float64Array(responses.length)
  const bySource: Record<string, Float64Array> = {}
  for (const source of sources) {
    const values =
      source.reward instanceof RewardModel
        ? await modelScores(source.reward, responses, options)
        : await functionScores(source.name, source.reward, responses.map(sampleOf), options)
    for (const [i, value] of values.entries()) {
      if (typeof value !== 'number' || !Number.isFinite(value)) {
        throw invalid(
          `the reward ${source.name} gave ${shown(value)} (${typeof value}) for sample ${i}: rewards must be finite numbers`,
        )
      }
      total[i]! += source.weight * value
    }
    bySource[source.name] = Float64Array.from(values)
  }
  return { total, bySource }
}

function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value)
  return typeof value === 'object' && value !== null ? 'an object' : String(value)
}

/** Ids as copies: a function may do with its samples what it likes, and keep them. */
export function sampleOf({ prompt, text, tokenIds, stopped }: Response): RewardSample {
  return {
    prompt: prompt.prompt,
    messages: prompt.messages,
    text,
    promptIds: prompt.promptIds.slice(),
    tokenIds: tokenIds.slice(),
    stopReason: stopped ? 'stop' : 'length',
    row: prompt.row,
  }
}

async function modelScores(
  model: RewardModel,
  responses: readonly Response[],
  { batchTokens, signal }: RewardOptions,
): Promise<number[]> {
  const scores: number[] = []
  for (const [from, to] of chunksByTokens(responses, batchTokens)) {
    const rows = responses
      .slice(from, to)
      .map(({ prompt, tokenIds }) => ({ promptIds: prompt.promptIds, completionIds: tokenIds }))
    scores.push(...(await model.scores(rows, signal && { signal })))
  }
  return scores
}

async function functionScores(
  name: string,
  reward: RewardFunction,
  samples: readonly RewardSample[],
  { timeoutMs, signal }: RewardOptions,
): Promise<readonly number[]> {
  let timer: NodeJS.Timeout | undefined
  let onAbort: (() => void) | undefined
  const ended = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(invalid(`the reward ${name} gave no answer within ${timeoutMs} ms (rewardTimeoutMs)`)),
      timeoutMs,
    )
    onAbort = () => reject(new AbortError(signal?.reason))
    if (signal?.aborted) onAbort()
    signal?.addEventListener('abort', onAbort, { once: true })
  })
  const asked = async () => {
    try {
      return await reward(samples)
    } catch (cause) {
      if (signal?.aborted) throw new AbortError(signal.reason)
      throw new PosttrainError('ERR_INVALID_ARGUMENT', `the reward ${name} threw: ${messageOf(cause)}`, {
        cause,
      })
    }
  }
  try {
    const values = await Promise.race([asked(), ended])
    if (!Array.isArray(values) && !ArrayBuffer.isView(values)) {
      throw invalid(`the reward ${name} gave ${typeof values}, expected a list of ${samples.length} numbers`)
    }
    const list = Array.from(values as ArrayLike<number>)
    if (list.length !== samples.length) {
      throw invalid(`the reward ${name} gave ${list.length} values for ${samples.length} samples`)
    }
    return list
  } finally {
    clearTimeout(timer)
    if (onAbort) signal?.removeEventListener('abort', onAbort)
  }
}

const messageOf = (cause: unknown) => (cause instanceof Error ? cause.message : String(cause))

/** Stretches [from, to) of responses with at most so many tokens, prompts included; at least one response each. */
export function chunksByTokens(
  responses: readonly { prompt: Pick<PromptItem, 'promptIds'>; tokenIds: Int32Array }[],
  batchTokens: number,
): [number, number][] {
  const chunks: [number, number][] = []
  let from = 0
  let tokens = 0
  for (const [i, { prompt, tokenIds }] of responses.entries()) {
    const length = prompt.promptIds.length + tokenIds.length
    if (i > from && tokens + length > batchTokens) {
      chunks.push([from, i])
      from = i
      tokens = 0
    }
    tokens += length
  }
  if (responses.length > from) chunks.push([from, responses.length])
  return chunks
}

function invalid(sentence: string): PosttrainError {
  return new PosttrainError('ERR_INVALID_ARGUMENT', sentence)
}
