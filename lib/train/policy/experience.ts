import type { CausalLM } from '../../models/causal-lm.js'
import { actionOffsets, type ForwardOptions, logProbsOf } from '../../rollout/responses.js'
import type { Scores } from '../../rollout/rewards.js'
import type { Response } from '../../rollout/rollout.js'

/**
 * A scored rollout with old-policy and reference log-probabilities, before any update: B responses of N tokens in total,
 * stop tokens included.
 */
export interface Experience {
  responses: readonly Response[]
  /** Start of each response in vectors over all tokens, [B + 1]. */
  offsets: Int32Array
  /** Raw scores, before penalties, [B]. */
  scores: Scores
  /** log p_old of each token, by a training forward of the policy that sampled it, [N]. */
  oldLogProbs: Float64Array
  /** log p_ref of each token, [N]; null without a reference. */
  referenceLogProbs: Float64Array | null
  /** Sum of log p_old - log p_ref over each response, [B]; zeros without a reference. */
  kl: Float64Array
  /** Mean entropy of the policy's predictions, in nats. */
  entropy: number
}

/** Adds the log-probabilities of policy and reference, each by its own training forward, to a scored rollout. */
export async function experienceOf(
  { model, reference }: { model: CausalLM; reference: CausalLM | null },
  rollout: Pick<Experience, 'responses' | 'scores'>,
  options: ForwardOptions & { temperature: number },
): Promise<Experience> {
  const { responses } = rollout
  const offsets = actionOffsets(responses)
  const { logProbs: oldLogProbs, entropy } = await logProbsOf(model, responses, options)
  const referenceLogProbs =
    reference === null ? null : (await logProbsOf(reference, responses, options)).logProbs
  const kl = new Float64Array(responses.length)
  if (referenceLogProbs !== null) {
    for (let i = 0; i < kl.length; i++)
      for (let t = offsets[i]!; t < offsets[i + 1]!; t++) kl[i]! += oldLogProbs[t]! - referenceLogProbs[t]!
  }
  return { ...rollout, offsets, oldLogProbs, referenceLogProbs, kl, entropy }
}
