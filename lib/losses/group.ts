import { as, type FloatArray, invalid, native, need, optional } from './arrays.js'

/** How the loss of many tokens becomes one number; formulas at `reductionWeights`. */
export type Reduction = 'dapo' | 'grpo' | 'bnpo' | 'drGrpo'

/**
 * Weights of the tokens of responses of these lengths, and what the weighted sum divides by. dapo and bnpo: the mean
 * over tokens (of the whole optimizer step, or of each batch alone); grpo: the mean over sequences of the mean over
 * their tokens; drGrpo (arXiv 2503.20783): the sum over tokens by sequences * maxLength.
 */
export function reductionWeights(
  reduction: Reduction,
  lengths: readonly number[],
  maxLength: number,
): { weights: number[]; normalizer: number } {
  const responses = lengths.filter((length) => length > 0).length
  switch (reduction) {
    case 'grpo':
      return { weights: lengths.map((length) => (length === 0 ? 0 : 1 / length)), normalizer: responses }
    case 'drGrpo':
      return { weights: lengths.map(() => 1), normalizer: responses * maxLength }
    case 'dapo':
    case 'bnpo':
      return { weights: lengths.map(() => 1), normalizer: lengths.reduce((a, b) => a + b, 0) }
    default:
      reduction satisfies never
      throw invalid('reduction', `must be dapo, grpo, bnpo or drGrpo, got ${String(reduction)}`)
  }
}

/**
 * GRPO's loss (Shao et al. 2024, arXiv 2402.03300) over responses of ragged length: for each token -min(r A, clip(r, 1 -
 * clipLow, 1 + clipHigh) A) + beta r k3, r = exp(logProbs - oldLogProbs), k3 = exp(-d) - 1 + d with d = logProbs -
 * referenceLogProbs, the ratio before it differentiated too. Arrays have one value a token, `offsets` [B + 1] cuts them
 * into responses. `kl` is the mean of r k3 by the same reduction. `gradient` is by logProbs.
 */
export async function grpoLoss<A extends FloatArray>(options: {
  logProbs: A
  oldLogProbs: FloatArray
  advantages: FloatArray
  referenceLogProbs?: FloatArray
  offsets: Int32Array
  /** Default 'dapo'. */
  reduction?: Reduction
  /** Default 0: no reference is needed. */
  beta?: number
  /** Default 0.2. */
  clipLow?: number
  clipHigh?: number
  /** Of drGrpo: the longest response there may be, in tokens. */
  maxLength?: number
  gradient?: boolean
}): Promise<{ loss: number; kl: number; clipFraction: number; gradient?: A }> {
  const {
    logProbs,
    oldLogProbs,
    advantages,
    referenceLogProbs,
    offsets,
    maxLength,
    gradient = false,
  } = options
  const { reduction = 'dapo', beta = 0, clipLow = 0.2, clipHigh = 0.2 } = options
  need(beta >= 0 && Number.isFinite(beta), 'grpoLoss', 'beta', 'at least 0', beta)
  need(clipLow >= 0, 'grpoLoss', 'clipLow', 'at least 0', clipLow)
  need(clipHigh >= 0, 'grpoLoss', 'clipHigh', 'at least 0', clipHigh)
  if (beta > 0 && referenceLogProbs === undefined) throw invalid('grpoLoss', 'beta needs referenceLogProbs')
  if (reduction === 'drGrpo' && !(maxLength !== undefined && maxLength > 0)) {
    throw invalid('grpoLoss', `reduction drGrpo needs a maxLength above 0, got ${maxLength}`)
  }
  const lengths = Array.from(offsets.subarray(1), (end, i) => end - offsets[i]!)
  if (offsets[0] !== 0 || offsets.at(-1) !== logProbs.length || lengths.some((length) => length < 0)) {
    throw invalid('grpoLoss', `offsets must rise from 0 to ${logProbs.length}`)
  }
  const { weights: perResponse, normalizer } = reductionWeights(reduction, lengths, maxLength ?? 0)
  const weights = Float64Array.from(
    lengths.flatMap((length, i) => Array<number>(length).fill(perResponse[i]!)),
  )
  const arrays = { logProbs, oldLogProbs, advantages, referenceLogProbs }
  const given = { logProbs, oldLogProbs, weights, normalizer, gradient }
  const policy = await native('grpoLoss', arrays, (core) =>
    core.policyLoss({ ...given, advantages, clipLow, clipHigh }),
  )
  const penalty =
    referenceLogProbs === undefined
      ? { loss: 0 }
      : await native('grpoLoss', {}, (core) =>
          core.klPenalty({ ...given, referenceLogProbs, estimator: 'k3', coefficient: 1 }),
        )
  const total = policy.gradient?.map((slope, i) => slope + beta * (penalty.gradient?.[i] ?? 0))
  return {
    loss: policy.loss + beta * penalty.loss,
    kl: penalty.loss,
    clipFraction: policy.clipped,
    ...optional('gradient', total && as(logProbs, total)),
  }
}
