import type { PairLossName } from '../options/pair-losses.js'
import type { RoleHandle } from './handles.js'

/** float64 values; float32 ones are widened. */
export type Reals = Float64Array | Float32Array

/**
 * One loss term of a backward. Vectors [T] have one value a token of the batch and are read where the token is a
 * label; `weights` of the batch multiply crossEntropy, ppoPolicy, ppoValue and kl. Terms over log-probabilities need
 * the head lm, ppoValue and pairwiseReward a scalar head. `coefficient` is 1 where it is absent.
 */
export type LossTerm<Reference = RoleHandle> =
  | { kind: 'crossEntropy'; coefficient?: number; ignoreIndex?: number }
  /** -sum of weights[t] * log p(label t), for a loss of one's own: its gradient by log p is -weights. */
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
      /** Weight of each token for samples that another policy drew. */
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
  /** With `oldLogProbs` each estimate is multiplied by exp(log p - old), which is differentiated too. */
  | {
      kind: 'kl'
      coefficient?: number
      estimator: 'k1' | 'k2' | 'k3'
      referenceLogProbs: Reals
      oldLogProbs?: Reals
    }
  /** Over the whole vocabulary: forward is KL(reference || model), the textbook's, reverse KL(model || reference). */
  | {
      kind: 'fullKl'
      coefficient?: number
      direction: 'forward' | 'reverse'
      reference: Reference
    }
  /** `pairs` [2 P]: better and worse document; `referenceSums` [D]: reference log-probability of each answer. */
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
      /** z: the mean log-ratio of mismatched answers, at least 0. */
      kl: number
      desirable: Uint8Array
      referenceSums: Reals
    }
  /** Read at the last token of each document; stands alone. */
  | {
      kind: 'pairwiseReward'
      coefficient?: number
      center?: number
      pairs: Int32Array
      margins?: Reals
      weights?: Reals
    }

/** Sums over what a term counts: tokens, sequences or pairs, by their weights; nothing is divided by anything. */
export interface TermResult {
  loss: number
  /** Sum of the weights: what a mean divides by. */
  count: number
  /**
   * Further sums. crossEntropy: correct, entropy, labels. ppoPolicy: clipped, approxKl, ratio, ratioSquared, entropy,
   * labels. ppoValue: clipped. dpo: correct, chosenReward, rejectedReward, chosenLogProb, rejectedLogProb. kto:
   * desirable, desirableReward, undesirableReward. pairwiseReward: correct, margin, rewards, documents, and the extremes
   * minReward and maxReward.
   */
  [sum: string]: number
}
