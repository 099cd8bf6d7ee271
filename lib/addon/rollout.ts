import type { Reals } from './terms.js'

/** Rewards and advantages of a rollout; `offsets` [B + 1] splits the N tokens into B responses. */
export interface RolloutCalls {
  gae(options: {
    rewards: Reals
    values: Reals
    offsets: Int32Array
    gamma: number
    lambda: number
  }): Promise<{ advantages: Float64Array; returns: Float64Array }>
  whiten(values: Reals, options: { mask?: Uint8Array; shiftMean: boolean }): Promise<Float64Array>
  /** -coefficient * KL estimate of each token, plus the score at the last token of each response. */
  tokenRewards(options: {
    logProbs: Reals
    referenceLogProbs: Reals
    scores: Reals
    offsets: Int32Array
    estimator: 'k1' | 'k2' | 'k3'
    coefficient: number
  }): Promise<Float64Array>
  /** `offsets` splits the rewards into groups; those with fewer than two rewards, or equal ones, get 0. */
  groupAdvantages(options: {
    rewards: Reals
    offsets: Int32Array
    method: 'grpo' | 'rloo'
    scaleRewards?: 'group' | 'batch' | 'none'
  }): Promise<{ advantages: Float64Array; withoutSpread: number }>
}
