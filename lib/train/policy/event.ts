import { isJudged } from '../../rollout/rewards.js'
import type { PolicyStepEvent, SampleEvent } from '../run/events.js'
import { mean } from '../run/sums.js'
import type { Experience } from './experience.js'
import { judgedMean } from './groups.js'
import type { Progress } from './training.js'
import type { Learned } from './update.js'

/** The fields of an iteration's event that PPO, GRPO and RLOO share. */
export function iterationEvent(
  experience: Experience,
  made: Pick<Progress, 'iteration' | 'klCoef' | 'learningRate'> & {
    policy: Learned
    reward: number
    epoch: number
    seconds: PolicyStepEvent['seconds']
  },
): PolicyStepEvent {
  const { responses, scores, kl } = experience
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
    step: made.iteration + 1,
    epoch: made.epoch,
    loss: policy.loss,
    gradNorm: policy.gradNorm,
    learningRate: made.learningRate,
    tokens,
    tokensPerSecond: tokens / (seconds.rollout + seconds.score + seconds.update),
    ...(policy.failed && {
      skipped: { reason: policy.failed, rows: responses.map(({ prompt }) => prompt.origin) },
    }),
    score: judgedMean(scores.total),
    scoreBySource: Object.fromEntries(
      Object.entries(scores.bySource)
        .filter(([_, values]) => values.some(isJudged))
        .map(([name, values]) => [name, judgedMean(values)]),
    ),
    ...(!scores.total.every(isJudged) && {
      unjudgedFraction: mean(scores.total.map((score) => Number(!isJudged(score)))),
    }),
    reward: made.reward,
    ...(experience.referenceLogProbs !== null && { kl: mean(kl), klCoef: made.klCoef }),
    entropy: experience.entropy,
    policyLoss: per(sums.lossSum),
    approxKl: per(sums.approxKl),
    clipFraction: per(sums.clipped),
    ratioMean,
    ratioVariance: Math.max(0, per(sums.ratioSquared) - ratioMean * ratioMean),
    responseLength: mean(responses.map(({ tokenIds }) => tokenIds.length)),
    stoppedFraction: mean(responses.map(({ stopped }) => Number(stopped))),
    distinctFraction: new Set(responses.map(({ tokenIds }) => tokenIds.join())).size / responses.length,
    logProbGap: logProbGap(experience),
    updates: policy.steps,
    seconds,
  }
}

/** Largest difference of a token's log-probability between rollout and training forward. */
function logProbGap({ responses, offsets, oldLogProbs }: Experience): number {
  let gap = 0
  for (const [i, { sampledLogProbs }] of responses.entries())
    for (const [t, sampled] of sampledLogProbs.entries())
      gap = Math.max(gap, Math.abs(sampled - oldLogProbs[offsets[i]! + t]!))
  return gap
}

/** The first responses of an iteration with their scores. */
export function sampleEvents(experience: Experience, step: number, count: number): SampleEvent[] {
  const { responses, scores, referenceLogProbs, kl } = experience
  return responses.slice(0, count).map(({ prompt, text, stopped }, i) => ({
    type: 'sample',
    step,
    prompt: prompt.prompt,
    text,
    finishReason: stopped ? 'stop' : 'length',
    ...(isJudged(scores.total[i]!) && { score: scores.total[i]! }),
    ...(referenceLogProbs !== null && { kl: kl[i]! }),
  }))
}
