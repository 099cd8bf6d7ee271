import type { CausalLM } from '../../models/causal-lm.js'
import type { LossTerm } from '../../models/terms.js'

/** A KL penalty as a term of the loss. */
export type KlInLoss =
  | { coefficient: number; estimator: 'k2' | 'k3'; referenceLogProbs: Float64Array }
  | { coefficient: number; estimator: 'full'; direction: 'forward' | 'reverse'; reference: CausalLM }

/** Inputs of the policy loss; vectors are over all tokens of a rollout, [N]. */
export interface PolicyLoss {
  oldLogProbs: Float64Array
  advantages: Float64Array
  clipLow: number
  clipHigh: number
  dualClip?: number | undefined
  entropyCoef?: number
  /** One ratio per response instead of per token. */
  sequence?: boolean
  kl: KlInLoss | null
}

/** Terms of the clipped policy loss, with the KL penalty if it is part of the loss; k3 is multiplied by the ratio. */
export function policyTerms(policy: PolicyLoss, of: (values: Float64Array) => Float64Array): LossTerm[] {
  const oldLogProbs = of(policy.oldLogProbs)
  const terms: LossTerm[] = [
    {
      kind: 'ppoPolicy',
      oldLogProbs,
      advantages: of(policy.advantages),
      clipLow: policy.clipLow,
      clipHigh: policy.clipHigh,
      ...(policy.dualClip !== undefined && { dualClip: policy.dualClip }),
      ...(policy.sequence && { sequence: true }),
      entropyCoefficient: policy.entropyCoef ?? 0,
    },
  ]
  const { kl } = policy
  if (kl === null) return terms
  if (kl.estimator === 'full') {
    const { coefficient, direction, reference } = kl
    terms.push({ kind: 'fullKl', coefficient, direction, reference })
  } else {
    const { coefficient, estimator } = kl
    terms.push({
      kind: 'kl',
      coefficient,
      estimator,
      referenceLogProbs: of(kl.referenceLogProbs),
      ...(estimator === 'k3' && { oldLogProbs }),
    })
  }
  return terms
}
