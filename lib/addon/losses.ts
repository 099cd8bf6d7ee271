import type { PairLossName } from '../options/pair-losses.js'
import type { Reals } from './terms.js'

/** Inputs and default options of a pair loss in the core's table; 0 for an option that the loss does not read. */
export interface NativePairLoss {
  name: string
  referenceFree: boolean
  lengths: boolean
  beta: number
  labelSmoothing: number
  gamma: number
  lambda: number
}

export interface PairLosses {
  losses: Float64Array
  chosen: Float64Array
  rejected: Float64Array
}

/** Losses over plain arrays; a Float64Array of `logits` computes in float64. */
export interface LossCalls {
  crossEntropy(
    logits: Float32Array | Float64Array,
    labels: Int32Array,
    options: { rows: number; columns: number; ignoreIndex: number; gradient: boolean },
  ): Promise<{ loss: number; count: number; gradient?: Float32Array | Float64Array }>
  /** Sums of a ppoPolicy term divided by `normalizer` (default: the count), and its gradient. */
  policyLoss(options: {
    logProbs: Reals
    oldLogProbs: Reals
    advantages: Reals
    mask?: Uint8Array
    weights?: Reals
    normalizer?: number
    clipLow: number
    clipHigh: number
    dualClip?: number
    gradient: boolean
  }): Promise<{ loss: number; clipped: number; approxKl: number; gradient?: Float64Array }>
  valueLoss(options: {
    values: Reals
    oldValues: Reals
    returns: Reals
    mask?: Uint8Array
    clip: number | null
    gradient: boolean
  }): Promise<{ loss: number; clipped: number; gradient?: Float64Array }>
  klPenalty(options: {
    logProbs: Reals
    referenceLogProbs: Reals
    oldLogProbs?: Reals
    mask?: Uint8Array
    weights?: Reals
    normalizer?: number
    estimator: 'k1' | 'k2' | 'k3' | 'full'
    columns?: number
    direction?: 'forward' | 'reverse'
    coefficient: number
    gradient: boolean
  }): Promise<{ loss: number; gradient?: Float64Array }>
  /** The core's table of pair losses. Synchronous. */
  pairLosses(): NativePairLoss[]
  /** Loss and derivatives of each pair, not divided by the number of pairs; likewise for the next two. */
  dpoLosses(options: {
    chosenLogProbs: Reals
    rejectedLogProbs: Reals
    chosenReferenceLogProbs?: Reals
    rejectedReferenceLogProbs?: Reals
    chosenLengths?: Reals
    rejectedLengths?: Reals
    loss: PairLossName
    beta: number
    labelSmoothing: number
    gamma: number
    lambda: number
  }): Promise<PairLosses>
  pairwiseLosses(options: {
    chosen: Reals
    rejected: Reals
    margins: Reals
    center: number
  }): Promise<PairLosses>
  /** `chosen` holds the derivative by each log-probability. */
  ktoLosses(options: {
    logProbs: Reals
    referenceLogProbs: Reals
    desirable: Uint8Array
    beta: number
    desirableWeight: number
    undesirableWeight: number
    kl: number
  }): Promise<PairLosses>
}
