import { is, needArgument, needOptions, shorten, shown } from '../arguments.js'
import type { Message, PromptItem } from '../data/index.js'
import { AbortError, PosttrainError } from '../errors.js'
import type { CausalLM } from '../models/causal-lm.js'
import { RewardModel } from '../models/reward-model.js'
import type { Response } from './rollout.js'

/** A response as reward functions receive it. `row` is the prompt's row with all its columns. */
export interface RewardSample<Row = Record<string, unknown>> {
  /** Text of the prompt, or the last message of the user. */
  prompt: string
  /** Messages of the prompt; null for a text. */
  messages: readonly Message[] | null
  /** Text of the response, without special tokens. */
  text: string
  promptIds: Int32Array
  /** Token ids of the response, its stop token included. */
  tokenIds: Int32Array
  /** `length`: it reached maxNewTokens. */
  stopReason: 'stop' | 'length'
  row: Row
}

/** Second argument of a reward function. */
export interface RewardContext {
  /** Aborted when the run is, when it is stopped, and at the time limit: pass it on to requests. */
  signal: AbortSignal
  /** Number of the iteration whose responses these are, from 1, as in step events. */
  step: number
}

/**
 * Returns for each sample a finite number, higher is better, or null where it does not judge the sample: other sources
 * then decide alone. A response that none judges is not trained on by GRPO and RLOO; PPO, which needs all, fails.
 */
export type RewardFunction<Row = Record<string, unknown>> = (
  samples: readonly RewardSample<Row>[],
  context: RewardContext,
) => readonly (number | null)[] | Promise<readonly (number | null)[]>

/** A reward model, a function, or several of them with weights. */
export type Reward<Row = Record<string, unknown>> =
  | RewardModel
  | RewardFunction<Row>
  | readonly { reward: RewardModel | RewardFunction<Row>; weight?: number; name?: string }[]

/** A reward model or function with its name in metrics and its weight. */
export interface RewardSource {
  name: string
  weight: number
  reward: RewardModel | RewardFunction
}

/** Checks the option `reward`; ERR_INVALID_ARGUMENT for a model with another tokenizer than the policy's. */
export function rewardSources(reward: Reward<never>, policy: CausalLM): RewardSource[] {
  const list = Array.isArray(reward) ? reward : [{ reward }]
  if (list.length === 0) throw invalid('reward must not be empty')
  const names = new Set<string>()
  const sources = Array.from(list).map(
    (item: { reward: RewardModel | RewardFunction; weight?: number; name?: string }, i) => {
      needArgument('reward', `item ${i + 1}`, item, is.object)
      const { reward: source, weight = 1 } = item
      needOptions('reward', item, { name: is.text })
      const own = typeof source === 'function' ? source.name : 'model'
      const known = item.name ?? (own === '' || own === 'reward' ? `reward ${i + 1}` : own)
      // Metrics tell sources apart by their names.
      const name = names.has(known) ? `${known} ${i + 1}` : known
      names.add(name)
      if (!Number.isFinite(weight))
        throw invalid(`the weight of ${name} must be a finite number, got ${shown(weight)}`)
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
    `${what} has another tokenizer than the trained model, so its scores of these ids would be meaningless: take one of the same family, or pass a reward function that scores text with it`,
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
  /** Time limit of a reward function. */
  timeoutMs: number
  /** Maximum tokens of one forward of a reward model. */
  batchTokens: number
  /** Number of the iteration, from 1. */
  step: number
  signal?: AbortSignal | undefined
}

/**
 * Scores of B responses: the weighted sum over the sources that judge a response, and the raw scores of each, [B]; NaN
 * where a response is not judged.
 */
export interface Scores {
  total: Float64Array
  bySource: Record<string, Float64Array>
}

/** Whether any source judged a response, from its total score. */
export const isJudged = (score: number): boolean => !Number.isNaN(score)

/**
 * Scores the responses by every source. Throws ERR_INVALID_ARGUMENT naming a function that throws (with its error as the
 * cause), times out, or returns a wrong number of values or one that is not finite; and where no source judges any
 * response.
 */
export async function scoresOf(
  sources: readonly RewardSource[],
  responses: readonly Response[],
  options: RewardOptions,
): Promise<Scores> {
  const total = new Float64Array(responses.length).fill(Number.NaN)
  const bySource: Record<string, Float64Array> = {}
  for (const source of sources) {
    const values =
      source.reward instanceof RewardModel
        ? await modelScores(source.reward, responses, options)
        : await functionScores(source.name, source.reward, responses.map(sampleOf), options)
    for (const [i, value] of values.entries()) {
      if (value === null) continue
      if (typeof value !== 'number' || !Number.isFinite(value)) {
        throw invalid(
          `reward ${bareName(source.name)} returned ${shown(value)} (${typeof value}) for sample ${i}: rewards must be finite numbers, or null where it does not judge`,
        )
      }
      total[i] = (isJudged(total[i]!) ? total[i]! : 0) + source.weight * value
    }
    bySource[source.name] = Float64Array.from(values, (value) => value ?? Number.NaN)
  }
  if (!total.some(isJudged))
    throw invalid(
      `no reward judged any of the ${responses.length} responses of iteration ${options.step}: all values are null`,
    )
  return { total, bySource }
}

/** `reward 1`, the name of a source without one, as `1`. */
const bareName = (name: string) => name.replace(/^reward (?=\d)/, '')

/** Copies the ids, so that a reward function may change and keep its samples. */
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
  { timeoutMs, step, signal }: RewardOptions,
): Promise<readonly (number | null)[]> {
  const ending = new AbortController()
  let timer: NodeJS.Timeout | undefined
  let onAbort: (() => void) | undefined
  const ended = new Promise<never>((_, reject) => {
    const end = (error: Error, reason: unknown) => {
      reject(error)
      ending.abort(reason)
    }
    timer = setTimeout(() => {
      const late = invalid(
        `reward function ${bareName(name)} did not return within ${timeoutMs} ms (rewardTimeoutMs)`,
      )
      end(late, late)
    }, timeoutMs)
    onAbort = () => end(new AbortError(signal?.reason), signal?.reason)
    if (signal?.aborted) onAbort()
    signal?.addEventListener('abort', onAbort, { once: true })
  })
  const called = async () => {
    try {
      return await reward(samples, { signal: ending.signal, step })
    } catch (cause) {
      if (signal?.aborted) throw new AbortError(signal.reason)
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `reward function ${bareName(name)} threw: ${messageOf(cause)}`,
        {
          cause,
        },
      )
    }
  }
  // The function may change its list.
  const count = samples.length
  try {
    return valuesOf(name, await Promise.race([called(), ended]), count)
  } finally {
    clearTimeout(timer)
    if (onAbort) signal?.removeEventListener('abort', onAbort)
  }
}

/** Checks what a reward function returned: a list of `count` items. */
function valuesOf(name: string, values: unknown, count: number): readonly (number | null)[] {
  const wrong = (what: string) => invalid(`reward function ${bareName(name)} returned ${what}`)
  if (!Array.isArray(values) && !ArrayBuffer.isView(values))
    throw wrong(`${typeof values}, expected a list of ${count} numbers`)
  let list: (number | null)[]
  try {
    const { length = 0 } = values as ArrayLike<number | null>
    if (length !== count) throw wrong(`${length} value${length === 1 ? '' : 's'} for ${count} samples`)
    list = Array.from({ length }, (_, i) => (values as ArrayLike<number | null>)[i]!)
  } catch (cause) {
    if (cause instanceof PosttrainError) throw cause
    throw invalid(`reward function ${bareName(name)} returned a list that throws: ${messageOf(cause)}`, {
      cause,
    })
  }
  if (!list.some(isPromise)) return list
  // Their failures would end the process.
  void Promise.allSettled(list)
  throw wrong('a list of promises: await Promise.all(...) of it')
}

const isPromise = (value: unknown) => value instanceof Promise

/** Most characters of a message of somebody else's error. */
const MAX_MESSAGE = 1000

/** Message of whatever a function threw, short and never failing. */
function messageOf(cause: unknown): string {
  try {
    return shorten(String(cause instanceof Error ? cause.message : cause), MAX_MESSAGE)
  } catch {
    return 'an object without a text'
  }
}

/** Splits responses into ranges [from, to) of at most `batchTokens` tokens, prompts included, and at least one response. */
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

function invalid(sentence: string, options?: { cause: unknown }): PosttrainError {
  return new PosttrainError('ERR_INVALID_ARGUMENT', sentence, options)
}
