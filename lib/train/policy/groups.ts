import type { CausalLM } from '../../models/causal-lm.js'
import { isJudged } from '../../rollout/rewards.js'
import { mean, variance } from '../run/sums.js'
import { native } from './native.js'

/** An advantage for each response, [B], and the number of groups with equal rewards. */
export interface OfGroups {
  advantages: Float64Array
  withoutSpread: number
}

/**
 * Advantages of consecutive groups of `groupSize` responses from their rewards, [B]. Responses that no source judged
 * (NaN) take no part in their group and get 0.
 */
export async function groupAdvantages(
  model: CausalLM,
  rewards: Float64Array,
  groupSize: number,
  method: { method: 'grpo'; scaleRewards: 'group' | 'batch' | 'none' } | { method: 'rloo' },
): Promise<OfGroups> {
  const judged = rewards.filter(isJudged)
  const offsets = new Int32Array(rewards.length / groupSize + 1)
  for (let g = 0; g + 1 < offsets.length; g++) {
    const group = rewards.subarray(g * groupSize, (g + 1) * groupSize)
    offsets[g + 1] = offsets[g]! + group.filter(isJudged).length
  }
  const result = await native(model, (core) => core.groupAdvantages({ rewards: judged, offsets, ...method }))
  let next = 0
  return {
    ...result,
    advantages: rewards.map((reward) => (isJudged(reward) ? result.advantages[next++]! : 0)),
  }
}

/** Mean of the scores or rewards of the judged responses; 0 if there are none. */
export const judgedMean = (values: Float64Array): number => mean(values.filter(isJudged))

/** Mean over groups of the standard deviation of their scores. */
export function spreadOfGroups(scores: Float64Array, groupSize: number): number {
  let sum = 0
  for (let from = 0; from < scores.length; from += groupSize)
    sum += Math.sqrt(variance(scores.subarray(from, from + groupSize).filter(isJudged)))
  return sum / (scores.length / groupSize)
}
