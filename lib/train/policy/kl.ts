import type { CausalLM } from '../../models/causal-lm.js'
import type { KlInLoss } from './terms.js'

/** Fields of option `kl` of `ppo` that define the penalty. */
interface KlOptions {
  in: 'reward' | 'loss'
  estimator?: 'k1' | 'k2' | 'k3' | 'full' | undefined
  direction?: 'reverse' | 'forward' | undefined
}

/** Estimator and weight of the penalty on the rewards of tokens; weight 0 if it is part of the loss. */
export function klInReward(
  kl: KlOptions | undefined,
  klCoef: number,
): { estimator: 'k1' | 'k3'; coefficient: number } {
  return {
    estimator: kl?.estimator === 'k3' && kl.in === 'reward' ? 'k3' : 'k1',
    coefficient: kl?.in === 'loss' ? 0 : klCoef,
  }
}

/** The penalty as a term of the loss; null if it is part of the rewards or its weight is 0. */
export function klInLoss(
  kl: KlOptions | undefined,
  coefficient: number,
  of: { reference: CausalLM; referenceLogProbs: Float64Array },
): KlInLoss | null {
  if (kl?.in !== 'loss' || coefficient === 0) return null
  const { reference, referenceLogProbs } = of
  return kl.estimator === 'full'
    ? { coefficient, estimator: 'full', direction: kl.direction ?? 'reverse', reference }
    : { coefficient, estimator: kl.estimator === 'k3' ? 'k3' : 'k2', referenceLogProbs }
}

/**
 * Weight of the KL penalty after an iteration: fixed, or adapted to a target (Ziegler et al. 2019, arXiv 1909.08593):
 * klCoef (1 + clip(kl / target - 1, -0.2, 0.2) responses / horizon).
 */
export function klController(
  target: number | undefined,
  horizon = 10_000,
): (coef: number, kl: number, responses: number) => number {
  if (target === undefined) return (coef) => coef
  return (coef, kl, responses) =>
    coef * (1 + (Math.min(0.2, Math.max(-0.2, kl / target - 1)) * responses) / horizon)
}
