import type { PairLossName } from '../options/pair-losses.js'
/** float64 values; float32 ones are widened. */
export type Reals = Float64Array | Float32Array

/**
 * One loss term of a backward pass. Vectors [T] have one value per token of the batch and are read where the token is a
 * label; `weights` of the batch multiply crossEntropy, ppoPolicy, ppoValue, kl and fullKl. Terms over log-probabilities
 * need a language-model head, ppoValue and pairwiseReward a scalar head. `coefficient` defaults to 1. `Reference`
 * is a model in the public interface and a native handle at the boundary.
 */
export type TermOver<Reference> =
  | { kind: 'crossEntropy'; coefficient?: number; ignoreIndex?: number }
  /** -sum of weights[t] * log p(label t), for custom losses: the gradient with respect to log p is -weights. */
  | { kind: 'weightedLogProb'; coefficient?: number; weights: Reals }
  | {
      kind: 'ppoPolicy'
      coefficient?: number
      oldLogProbs: Reals
      advantages: Reals
      /** The ratio is clipped to [1 - clipLow, 1 + clipHigh]. At least 0. Defaults to `0.2`. */
      clipLow?: number
      /** At least 0. Defaults to `0.2`. */
      clipHigh?: number
      /** Dual clip: caps the loss of negative advantages at this times |A|. Above 1. Default: not capped. */
      dualClip?: number
      /** One ratio for each document. Defaults to `false`. */
      sequence?: boolean
      /** Importance-sampling weight of each token, for samples drawn from another policy. */
      importance?: Reals
      /** Weight of an entropy bonus. Defaults to `0`. */
      entropyCoefficient?: number
    }
  /** clip null: the values are not clipped. */
  | {
      kind: 'ppoValue'
      coefficient?: number
      oldValues: Reals
      returns: Reals
      clip: number | null
    }
  /** `oldLogProbs` multiplies each estimate by the ratio exp(log p - old), which is differentiated too. */
  | {
      kind: 'kl'
      coefficient?: number
      estimator: 'k1' | 'k2' | 'k3'
      referenceLogProbs: Reals
      oldLogProbs?: Reals
    }
  /** KL over the whole vocabulary: forward is KL(reference || model), reverse is KL(model || reference). */
  | {
      kind: 'fullKl'
      coefficient?: number
      direction: 'forward' | 'reverse'
      reference: Reference
    }
  /** `pairs` [2 P]: chosen and rejected document; `referenceSums` [D]: reference log-probability of each response. */
  | {
      kind: 'dpo'
      coefficient?: number
      loss: PairLossName
      /** Strength of the KL constraint to the reference. Above 0. Default: the loss's own, 0.1 or simpo 2. */
      beta?: number
      /** Share of pairs in the wrong order (robust, cdpo, exo). In [0, 0.5), exo above 0. Default: 0; exo 0.001. */
      labelSmoothing?: number
      /** Margin of simpo. Any finite number. Default: 1. */
      gamma?: number
      lambda?: number
      pairs: Int32Array
      weights?: Reals
      referenceSums?: Reals
    }
  | {
      kind: 'kto'
      coefficient?: number
      beta: number
      desirableWeight?: number
      undesirableWeight?: number
      /** z: mean log-ratio of mismatched prompts and responses. At least 0. */
      kl: number
      desirable: Uint8Array
      referenceSums: Reals
    }
  /** Reads the score at the last token of each document; cannot be combined with other terms. */
  | {
      kind: 'pairwiseReward'
      coefficient?: number
      center?: number
      pairs: Int32Array
      margins?: Reals
      weights?: Reals
    }

/** Weighted sums over what a term counts: tokens, sequences or pairs. None is divided by a count. */
export interface TermResult {
  loss: number
  /** Sum of the weights: what a mean divides by. */
  count: number
  /**
   * Further sums. crossEntropy: correct, entropy, labels. ppoPolicy: clipped, approxKl, ratio, ratioSquared, entropy,
   * labels. ppoValue: clipped. dpo: correct, chosenReward, rejectedReward, chosenLogProb, rejectedLogProb. kto:
   * desirable, desirableReward, undesirableReward. pairwiseReward: correct, margin, rewards, documents, minReward,
   * maxReward.
   */
  [sum: string]: number
}
