import { PosttrainError } from '../../errors.js'
import { isJudged } from '../../rollout/rewards.js'
import type { Experience } from './experience.js'
import type { ScoreHistory } from './state.js'

/**
 * Final scores of PPO, [B]: normalized by the history of all scores with `scoreNormalize`, clipped to plus or minus
 * `scoreClip`, minus the penalty of responses without a stop token. Adds the scores to the history. Throws
 * ERR_INVALID_ARGUMENT where no source judged a response: the critic learns from all.
 */
export function finalScores(
  { responses, scores }: Experience,
  options: { scoreNormalize: boolean; scoreClip?: number | undefined; missingEosPenalty: number },
  history: ScoreHistory,
): Float64Array {
  const unjudged = scores.total.findIndex((score) => !isJudged(score))
  if (unjudged >= 0)
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `no reward judged the response to ${responses[unjudged]!.prompt.origin}: PPO needs a score for each response, so at least one source must not return null`,
    )
  const final = options.scoreNormalize ? normalized(scores.total, history) : Float64Array.from(scores.total)
  const bound = options.scoreClip ?? Number.POSITIVE_INFINITY
  for (const [i, { stopped }] of responses.entries()) {
    const penalty = stopped ? 0 : options.missingEosPenalty
    final[i] = Math.min(bound, Math.max(-bound, final[i]!)) - penalty
  }
  return final
}

/** Scores normalized by their running mean and standard deviation (Welford 1962). */
function normalized(scores: Float64Array, history: ScoreHistory): Float64Array {
  for (const score of scores) {
    history.count++
    const before = score - history.mean
    history.mean += before / history.count
    history.squares += before * (score - history.mean)
  }
  const deviation = Math.sqrt(history.squares / Math.max(1, history.count - 1)) + 1e-8
  return scores.map((score) => (score - history.mean) / deviation)
}

/** Soft overlong punishment (DAPO, arXiv 2503.14476): the last `overlongTokens` before the limit lower the score by up to 1. */
export function withoutOverlong(
  { responses, scores }: Experience,
  { overlongTokens, maxNewTokens }: { overlongTokens?: number | undefined; maxNewTokens: number },
): Float64Array {
  if (overlongTokens === undefined) return scores.total
  return scores.total.map((score, i) => {
    const over = responses[i]!.tokenIds.length - (maxNewTokens - overlongTokens)
    return score - Math.min(1, Math.max(0, over / overlongTokens))
  })
}
