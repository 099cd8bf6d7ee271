import {
  as,
  type FloatArray,
  invalid,
  native,
  need,
  needFinite,
  needInt32,
  needLossOptions,
  optional,
} from './arrays.js'

/** Reduction of token losses to one number; formulas at `reductionWeights`. */
export type Reduction = 'dapo' | 'grpo' | 'bnpo' | 'drGrpo'

/**
 * Token weights for responses of these lengths, and the normalizer of the weighted sum. dapo and bnpo: the mean over
 * tokens (of the whole optimizer step, or of each batch alone); grpo: the mean over sequences of the mean over their
 * tokens; drGrpo (arXiv 2503.20783): the sum over tokens divided by sequences * maxLength.
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
 * referenceLogProbs; the gradient includes the ratio in front of k3. Arrays have one value per token; `offsets` [B + 1]
 * delimits the responses. `kl` is the mean of r k3 and `clipFraction` the share of clipped tokens, over all tokens in
 * every reduction. `gradient` is with respect to logProbs.
 */
export async function grpoLoss<A extends FloatArray>(options: {
  logProbs: A
  oldLogProbs: FloatArray
  advantages: FloatArray
  referenceLogProbs?: FloatArray
  offsets: Int32Array
  /** Default 'dapo'. */
  reduction?: Reduction
  /** Weight of the KL penalty. Default 0: no reference is needed. */
  beta?: number
  /** Default 0.2. */
  clipLow?: number
  clipHigh?: number
  /** drGrpo: maximum tokens of a response. */
  maxLength?: number
  gradient?: boolean
}): Promise<{ loss: number; kl: number; clipFraction: number; gradient?: A }> {
  needLossOptions('grpoLoss', options)
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
  const arrays = { logProbs, oldLogProbs, advantages, ...optional('referenceLogProbs', referenceLogProbs) }
  needFinite('grpoLoss', arrays)
  needInt32('grpoLoss', 'offsets', offsets)
  const lengths = Array.from(offsets.subarray(1), (end, i) => end - offsets[i]!)
  if (offsets[0] !== 0 || offsets.at(-1) !== logProbs.length || lengths.some((length) => length < 0)) {
    throw invalid('grpoLoss', `offsets must rise from 0 to ${logProbs.length}`)
  }
  const { weights: perResponse, normalizer } = reductionWeights(reduction, lengths, maxLength ?? 0)
  const weights = Float64Array.from(
    lengths.flatMap((length, i) => Array<number>(length).fill(perResponse[i]!)),
  )
  const tokens = { logProbs, oldLogProbs }
  const reduced = { ...tokens, weights, normalizer, gradient }
  const clip = { advantages, clipLow, clipHigh }
  const policy = await native('grpoLoss', {}, (core) => core.policyLoss({ ...reduced, ...clip }))
  const { clipped } = await native('grpoLoss', {}, (core) =>
    core.policyLoss({ ...tokens, ...clip, gradient: false }),
  )
  const loss = { loss: policy.loss, kl: 0, clipFraction: clipped }
  if (referenceLogProbs === undefined) {
    return { ...loss, ...optional('gradient', policy.gradient && as(logProbs, policy.gradient)) }
  }
  const k3 = { referenceLogProbs, estimator: 'k3', coefficient: 1 } as const
  const penalty = await native('grpoLoss', {}, (core) => core.klPenalty({ ...reduced, ...k3 }))
  const kl = await native('grpoLoss', {}, (core) => core.klPenalty({ ...tokens, ...k3, gradient: false }))
  const total = policy.gradient?.map((slope, i) => slope + beta * penalty.gradient![i]!)
  return {
    ...loss,
    loss: policy.loss + beta * penalty.loss,
    kl: kl.loss,
    ...optional('gradient', total && as(logProbs, total)),
  }
}
