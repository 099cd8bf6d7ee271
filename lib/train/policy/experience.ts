import type { CausalLM } from '../../models/causal-lm.js'
import { actionOffsets, type ForwardOptions, logProbsOf } from '../../rollout/experience.js'
import type { Rewarded } from '../../rollout/rewards.js'
import type { Response } from '../../rollout/rollout.js'
import type { PolicyStepEvent, SampleEvent } from '../run/events.js'
import type { Learned } from './update.js'

/** What is known of a rollout before anything is learnt from it. */
export interface Experience {
  responses: readonly Response[]
  /** Where the tokens of each answer begin in the vectors below, [B + 1]. */
  offsets: Int32Array
  /** Scores of the answers, before penalties, [B]. */
  rewarded: Rewarded
  /** Log-probabilities of every token by the training forward of the policy that drew it, and of the reference, [N]. */
  oldLogProbs: Float64Array
  referenceLogProbs: Float64Array | null
  /** Sum of log p - log p_ref over each answer, [B]; zeros without a reference. */
  kl: Float64Array
  /** Mean of the policy's predictions, in nats. */
  entropy: number
  /** Of this iteration, from 0. */
  iteration: number
  klCoef: number
}

/** What policy and reference say of answers that were drawn and scored. */
export async function experienceOf(
  of: { model: CausalLM; reference: CausalLM | null },
  drawn: Pick<Experience, 'responses' | 'rewarded' | 'iteration' | 'klCoef'>,
  options: ForwardOptions & { temperature: number },
): Promise<Experience> {
  const { responses } = drawn
  const offsets = actionOffsets(responses)
  const { logProbs: oldLogProbs, entropy } = await logProbsOf(of.model, responses, options)
  const referenceLogProbs =
    of.reference === null ? null : (await logProbsOf(of.reference, responses, options)).logProbs
  const kl = new Float64Array(responses.length)
  if (referenceLogProbs !== null) {
    for (let i = 0; i < kl.length; i++)
      for (let t = offsets[i]!; t < offsets[i + 1]!; t++) kl[i]! += oldLogProbs[t]! - referenceLogProbs[t]!
  }
  return { ...drawn, offsets, oldLogProbs, referenceLogProbs, kl, entropy }
}

const mean = (values: ArrayLike<number>) =>
  values.length === 0 ? 0 : Array.from(values).reduce((sum, value) => sum + value, 0) / values.length

/** Largest difference of a token's log-probability between rollout and training forward. */
function gapOf({ responses, offsets, oldLogProbs }: Experience): number {
  let gap = 0
  for (const [i, { sampledLogProbs }] of responses.entries())
    for (const [t, sampled] of sampledLogProbs.entries())
      gap = Math.max(gap, Math.abs(sampled - oldLogProbs[offsets[i]! + t]!))
  return gap
}

/** What every recipe tells of an iteration. */
export function iterationEvent(
  experience: Experience,
  made: {
    policy: Learned
    reward: number
    epoch: number
    learningRate: number
    seconds: PolicyStepEvent['seconds']
  },
): PolicyStepEvent {
  const { responses, rewarded, kl } = experience
  const { policy, seconds } = made
  const sums = policy.sums[0] ?? { lossSum: 0, count: 0 }
  const per = (value: number | undefined) => (value ?? 0) / Math.max(1e-12, sums.count)
  const ratioMean = per(sums.ratio)
  const tokens = responses.reduce(
    (sum, { prompt, tokenIds }) => sum + prompt.promptIds.length + tokenIds.length,
    0,
  )
  return {
    type: 'step',
    step: experience.iteration + 1,
    epoch: made.epoch,
    loss: policy.loss,
    gradNorm: policy.gradNorm,
    learningRate: made.learningRate,
    tokens,
    tokensPerSecond: tokens / (seconds.rollout + seconds.score + seconds.update),
    ...(policy.failed && {
      skipped: { reason: policy.failed, rows: responses.map(({ prompt }) => prompt.origin) },
    }),
    score: mean(rewarded.total),
    scoreBySource: Object.fromEntries(
      Object.entries(rewarded.bySource).map(([name, values]) => [name, mean(values)]),
    ),
    reward: made.reward,
    ...(experience.referenceLogProbs !== null && { kl: mean(kl), klCoef: experience.klCoef }),
    entropy: experience.entropy,
    policyLoss: per(sums.lossSum),
    approxKl: per(sums.approxKl),
    clipFraction: per(sums.clipped),
    ratioMean,
    ratioVariance: Math.max(0, per(sums.ratioSquared) - ratioMean * ratioMean),
    responseLength: mean(responses.map(({ tokenIds }) => tokenIds.length)),
    stoppedFraction: mean(responses.map(({ stopped }) => Number(stopped))),
    distinctFraction: new Set(responses.map(({ tokenIds }) => tokenIds.join())).size / responses.length,
    logProbGap: gapOf(experience),
    updates: policy.steps,
    seconds,
  }
}

/** The first answers of an iteration with what they earned. */
export function samplesOf(experience: Experience, count: number): SampleEvent[] {
  const { responses, rewarded, referenceLogProbs, kl, iteration } = experience
  return responses.slice(0, count).map(({ prompt, text, stopped }, i) => ({
    type: 'sample',
    step: iteration + 1,
    prompt: prompt.prompt,
    text,
    finishReason: stopped ? 'stop' : 'length',
    score: rewarded.total[i]!,
    ...(referenceLogProbs !== null && { kl: kl[i]! }),
  }))
}
