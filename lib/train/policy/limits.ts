import { PosttrainError } from '../../errors.js'
import type { CausalLM } from '../../models/causal-lm.js'
import { RewardModel } from '../../models/reward-model.js'
import type { RewardSource } from '../../rollout/rewards.js'
import { MAX_RESPONSES } from '../options/policy.js'

/** Throws ERR_INVALID_ARGUMENT if a rollout has fewer responses than mini-batches, or more than fit in memory. */
export function checkRolloutSize(responses: number, miniBatches: number): void {
  if (responses > MAX_RESPONSES) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `a rollout would have ${responses} responses (batchSize times groupSize), more than ${MAX_RESPONSES}: lower batchSize`,
    )
  }
  if (miniBatches <= responses) return
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `miniBatches ${miniBatches} is more than the ${responses} responses of a rollout`,
  )
}

/** Maximum tokens of a prompt, so that a response fits after it in the context of every model that reads both. */
export function promptLength(
  options: {
    model: CausalLM
    reference?: CausalLM | undefined
    critic?: RewardModel | undefined
    maxPromptLength?: number | undefined
    maxNewTokens: number
  },
  sources: readonly RewardSource[],
): number {
  const { model, reference, critic, maxPromptLength, maxNewTokens } = options
  const judges = sources.map(({ reward }) => reward).filter((reward) => reward instanceof RewardModel)
  const readers = [model, reference, critic, ...judges].filter((reader) => reader !== undefined)
  const context = Math.min(...readers.map(({ contextLength }) => contextLength ?? Number.POSITIVE_INFINITY))
  const room = context - maxNewTokens
  if (room < 1) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `maxNewTokens ${maxNewTokens} leaves no room for a prompt in the context of ${context} of the model, its reference or its reward model`,
    )
  }
  return Math.min(room, maxPromptLength ?? Number.POSITIVE_INFINITY)
}
