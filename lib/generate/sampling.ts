import type { SamplingOptions } from '../addon/addon.js'
import { PosttrainError } from '../errors.js'
import type { CausalLM } from '../models/causal-lm.js'
import { resolveOptions } from '../options/validate.js'
import type { GenerateOptions } from './options.generated.js'
import { generateOptions } from './options.js'

export interface CheckedOptions extends SamplingOptions {
  maxNewTokens: number
  batchSize: number
  stop: readonly string[]
  logProbs: boolean
  template?: GenerateOptions['template']
  templateArguments?: GenerateOptions['templateArguments']
  rendered: boolean
  signal: AbortSignal | undefined
}

/** Resolves the options. Throws ERR_INVALID_ARGUMENT naming one that is out of range or would have no effect. */
export function checkOptions(model: CausalLM, options: GenerateOptions): CheckedOptions {
  const { stop = [], stopIds = model.stopIds, signal, ...checked } = resolveOptions(generateOptions, options)
  const outside = stopIds.find((id) => id >= model.vocabSize)
  if (outside !== undefined) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `generate: option stopIds must be ids below ${model.vocabSize}, got ${outside}`,
    )
  }
  return {
    ...checked,
    stopIds: Int32Array.from(stopIds),
    stop: typeof stop === 'string' ? [stop] : stop,
    signal,
  }
}
