import { as, type FloatArray, native, need, needLossOptions, optional } from './arrays.js'

/**
 * PPO's clipped policy loss (Schulman et al. 2017, arXiv 1707.06347): the mean over counted tokens of
 * max(-A r, -A clip(r, 1 - clip, 1 + clip)) with r = exp(logProbs - oldLogProbs), the log-ratio clamped to ±20. All
 * arrays have one value per token. `dualClip` (arXiv 1912.09729) caps the loss of a negative advantage at dualClip |A|.
 * `gradient` is with respect to logProbs. Without counted tokens the loss is 0.
 *
 * ```ts
 * const one = (x: number) => Float64Array.of(x)
 * const { loss } = await ppoClipLoss({ logProbs: one(-1), oldLogProbs: one(-1.5), advantages: one(2) }) // -2 * 1.2
 * ```
 */
export async function ppoClipLoss<A extends FloatArray>(options: {
  logProbs: A
  oldLogProbs: FloatArray
  advantages: FloatArray
  mask?: Uint8Array
  /** Default 0.2. */
  clip?: number
  dualClip?: number
  gradient?: boolean
}): Promise<{ loss: number; clipFraction: number; approxKl: number; gradient?: A }> {
  needLossOptions('ppoClipLoss', options)
  const { logProbs, oldLogProbs, advantages, mask, clip = 0.2, dualClip, gradient = false } = options
  need(clip >= 0, 'ppoClipLoss', 'clip', 'at least 0', clip)
  need(dualClip === undefined || dualClip > 1, 'ppoClipLoss', 'dualClip', 'above 1', dualClip)
  const result = await native('ppoClipLoss', { logProbs, oldLogProbs, advantages }, (core) =>
    core.policyLoss({
      logProbs,
      oldLogProbs,
      advantages,
      ...optional('mask', mask),
      ...optional('dualClip', dualClip),
      clipLow: clip,
      clipHigh: clip,
      gradient,
    }),
  )
  return {
    loss: result.loss,
    clipFraction: result.clipped,
    approxKl: result.approxKl,
    ...(result.gradient && { gradient: as(logProbs, result.gradient) }),
  }
}

/**
 * PPO's clipped value loss: half the mean over counted tokens of max((v - R)², (clip(v, old - clip, old + clip) - R)²).
 * `clip: null` does not clip. `gradient` is with respect to values.
 */
export async function ppoValueLoss<A extends FloatArray>(options: {
  values: A
  oldValues: FloatArray
  returns: FloatArray
  mask?: Uint8Array
  /** Default 0.2. */
  clip?: number | null
  gradient?: boolean
}): Promise<{ loss: number; clipFraction: number; gradient?: A }> {
  needLossOptions('ppoValueLoss', options)
  const { values, oldValues, returns, mask, clip = 0.2, gradient = false } = options
  need(clip === null || clip >= 0, 'ppoValueLoss', 'clip', 'at least 0', clip ?? undefined)
  const result = await native('ppoValueLoss', { values, oldValues, returns }, (core) =>
    core.valueLoss({ values, oldValues, returns, ...optional('mask', mask), clip, gradient }),
  )
  return {
    loss: result.loss,
    clipFraction: result.clipped,
    ...(result.gradient && { gradient: as(values, result.gradient) }),
  }
}

/** Options of `klPenalty`: from the log-probabilities of samples, or over the whole vocabulary. */
export type KlPenaltyOptions<A extends FloatArray> = {
  /** Log-probabilities of the policy, in nats. Required. */
  logProbs: A
  /** Log-probabilities of the reference, of the same length. Required. */
  referenceLogProbs: FloatArray
  /** Weight of the penalty. Defaults to `0.1`. */
  coefficient?: number
  /** Whether to return the gradient with respect to logProbs. Defaults to `false`. */
  gradient?: boolean
} & (
  | {
      /** Estimator of the KL of a token from its sample. Required. */
      estimator: 'k1' | 'k2' | 'k3'
      /** One value per token; 0 leaves it out of the mean. Default: all count. */
      mask?: Uint8Array
    }
  | {
      /** The KL over the whole vocabulary. Required. */
      estimator: 'full'
      /** Both arrays are log-softmax rows [N, columns]. Required. */
      columns: number
      /** forward is KL(reference || policy), reverse KL(policy || reference). Defaults to `'forward'`. */
      direction?: 'forward' | 'reverse'
    }
)

/**
 * Mean KL penalty of a policy with respect to its reference, times the coefficient.
 *
 * Estimators from samples, d = logProbs - referenceLogProbs (Schulman 2020): k1 = d, k2 = d² / 2, k3 = exp(-d) - 1 + d,
 * one value per token. `full` sums each row over the vocabulary: forward Σ p_ref (log p_ref - log p), the textbook's
 * penalty, reverse Σ p (log p - log p_ref). `gradient` is with respect to logProbs.
 */
export async function klPenalty<A extends FloatArray>(
  options: KlPenaltyOptions<A>,
): Promise<{ loss: number; gradient?: A }> {
  needLossOptions('klPenalty', options)
  const { logProbs, referenceLogProbs, estimator, coefficient = 0.1, gradient = false } = options
  need(Number.isFinite(coefficient), 'klPenalty', 'coefficient', 'finite', coefficient)
  const result = await native('klPenalty', { logProbs, referenceLogProbs }, (core) =>
    core.klPenalty({
      logProbs,
      referenceLogProbs,
      estimator,
      coefficient,
      gradient,
      ...(options.estimator === 'full'
        ? { columns: options.columns, direction: options.direction ?? 'forward' }
        : optional('mask', options.mask)),
    }),
  )
  return { loss: result.loss, ...(result.gradient && { gradient: as(logProbs, result.gradient) }) }
}
