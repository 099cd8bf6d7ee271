import type { SamplingOptions } from '../addon/addon.js'
import { PosttrainError } from '../errors.js'
import type { CausalLM } from '../models/causal-lm.js'

export interface GenerateOptions {
  /** Default 64. */
  maxNewTokens?: number
  /** 0, the default, takes the most probable token. */
  temperature?: number
  /** Draw among the K most probable tokens; 0, the default, is off. */
  topK?: number
  /** Draw among the fewest tokens whose probability reaches this; 1, the default, is off. */
  topP?: number
  /** Leave out tokens below this fraction of the most probable one's probability; 0, the default, is off. */
  minP?: number
  /** Above 1 makes tokens that were already there less likely; 1, the default, is off. */
  repetitionPenalty?: number
  /** Decides the draws; default 0. */
  seed?: number
  /** Texts that end an answer; they are cut off. */
  stop?: string | readonly string[]
  /** Ids that end an answer; default: the model's own (model.stopIds). */
  stopIds?: readonly number[]
  /** Give the log-probability of each token with the completion; default false. */
  logProbs?: boolean
  signal?: AbortSignal
}

export interface CheckedOptions extends SamplingOptions {
  stop: readonly string[]
  logProbs: boolean
  signal: AbortSignal | undefined
}

/** Options with defaults, or ERR_INVALID_ARGUMENT naming what is out of range or would have no effect. */
export function checkOptions(model: CausalLM, options: GenerateOptions): CheckedOptions {
  const {
    temperature = 0,
    topK = 0,
    topP = 1,
    minP = 0,
    repetitionPenalty = 1,
    seed = 0,
    maxNewTokens = 64,
  } = options
  const need = (ok: boolean, name: string, what: string, value: unknown) => {
    if (!ok) throw new PosttrainError('ERR_INVALID_ARGUMENT', `${name} must be ${what}, got ${String(value)}`)
  }
  need(
    Number.isInteger(maxNewTokens) && maxNewTokens > 0,
    'maxNewTokens',
    'a whole number above 0',
    maxNewTokens,
  )
  need(Number.isFinite(temperature) && temperature >= 0, 'temperature', 'at least 0', temperature)
  need(Number.isInteger(topK) && topK >= 0, 'topK', 'a whole number of at least 0', topK)
  need(topP > 0 && topP <= 1, 'topP', 'above 0 and at most 1', topP)
  need(minP >= 0 && minP <= 1, 'minP', 'between 0 and 1', minP)
  need(
    Number.isFinite(repetitionPenalty) && repetitionPenalty > 0,
    'repetitionPenalty',
    'above 0',
    repetitionPenalty,
  )
  need(Number.isSafeInteger(seed) && seed >= 0, 'seed', 'a whole number of at least 0', seed)
  const stop = typeof options.stop === 'string' ? [options.stop] : (options.stop ?? [])
  need(
    stop.every((text) => text !== ''),
    'stop',
    'texts that are not empty',
    '""',
  )
  const idle = {
    topK: topK > 0,
    topP: topP < 1,
    minP: minP > 0,
    seed: options.seed !== undefined && options.seed !== 0,
  }
  for (const [name, given] of Object.entries(idle)) {
    if (temperature === 0 && given) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `${name} has no effect at temperature 0: set a temperature above 0`,
      )
    }
  }
  const stopIds = options.stopIds ?? model.stopIds
  need(
    stopIds.every((id) => Number.isInteger(id) && id >= 0 && id < model.vocabSize),
    'stopIds',
    `ids below ${model.vocabSize}`,
    stopIds,
  )
  return {
    maxNewTokens,
    temperature,
    topK,
    topP,
    minP,
    repetitionPenalty,
    seed,
    stopIds: Int32Array.from(stopIds),
    stop,
    logProbs: options.logProbs ?? false,
    signal: options.signal,
  }
}
