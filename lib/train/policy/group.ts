import type { CausalLM } from '../../models/causal-lm.js'
import type { AdamW } from '../../optim/adamw.js'
import type { ResolvedOptions } from '../../options/option.js'
import { STREAM } from '../../random.js'
import type { grpoOptions, rlooOptions } from '../options/group.js'
import type { GroupStepEvent } from '../run/events.js'
import type { Experience } from './experience.js'
import { native, type PolicyTraining } from './state.js'
import { type PolicyTerms, policyTerms, type UpdateOptions, updateFrom } from './update.js'

type Grpo = ResolvedOptions<typeof grpoOptions>
type Rloo = ResolvedOptions<typeof rlooOptions>

/** Where the two differ. */
export interface GroupMethod {
  recipe: 'grpo' | 'rloo'
  reduction: Parameters<typeof updateFrom>[3]['reduction']
  /** Answers that teach. */
  counted(experience: Experience): boolean[]
  /** What advantages are made of. */
  scores(experience: Experience): Float64Array
  advantages(
    model: CausalLM,
    rewards: Float64Array,
    groupSize: number,
  ): Promise<{ advantages: Float64Array; withoutSpread: number }>
  terms(experience: Experience): Omit<PolicyTerms, 'oldLogProbs' | 'advantages'>
}

export function grpoMethod(
  options: Pick<
    Grpo,
    | 'clipLow'
    | 'clipHigh'
    | 'reduction'
    | 'scaleRewards'
    | 'maskTruncated'
    | 'klCoef'
    | 'overlongTokens'
    | 'maxNewTokens'
  >,
): GroupMethod {
  const { clipLow, clipHigh, reduction, maskTruncated, klCoef, overlongTokens, maxNewTokens } = options
  const scaleRewards = options.scaleRewards ?? (reduction === 'drGrpo' ? 'none' : 'group')
  return {
    recipe: 'grpo',
    reduction,
    counted: ({ responses }) => responses.map(({ stopped }) => stopped || !maskTruncated),
    scores: ({ responses, rewarded }) =>
      overlongTokens === undefined
        ? rewarded.total
        : rewarded.total.map((score, i) => {
            // Soft overlong punishment (DAPO, arXiv 2503.14476).
            const over = responses[i]!.tokenIds.length - (maxNewTokens - overlongTokens)
            return score - Math.min(1, Math.max(0, over / overlongTokens))
          }),
    advantages: (model, rewards, groupSize) =>
      native(model, (core) => core.groupAdvantages({ rewards, groupSize, method: 'grpo', scaleRewards })),
    terms: ({ referenceLogProbs }) => ({
      clipLow,
      clipHigh,
      kl: referenceLogProbs && { coefficient: klCoef, estimator: 'k3', referenceLogProbs },
    }),
  }
}

export function rlooMethod(options: Pick<Rloo, 'clip' | 'klCoef' | 'normalizeAdvantages'>): GroupMethod {
  const { clip, klCoef, normalizeAdvantages } = options
  return {
    recipe: 'rloo',
    reduction: 'sequence',
    counted: ({ responses }) => responses.map(() => true),
    scores: ({ rewarded, kl }) => rewarded.total.map((score, i) => score - klCoef * kl[i]!),
    advantages: async (model, rewards, groupSize) => {
      const result = await native(model, (core) =>
        core.groupAdvantages({ rewards, groupSize, method: 'rloo' }),
      )
      if (!normalizeAdvantages) return result
      const advantages = await native(model, (core) => core.whiten(result.advantages, { shiftMean: true }))
      return { ...result, advantages }
    },
    terms: () => ({ clipLow: clip, clipHigh: clip, sequence: true, kl: null }),
  }
}

/** What GRPO and RLOO make of an experience: one advantage for each answer, and the updates of the policy. */
export function groupLearning(
  of: { model: CausalLM; optimizer: AdamW },
  method: GroupMethod,
  options: Omit<UpdateOptions, 'seed' | 'stream' | 'reduction' | 'counted'> & { groupSize: number },
): PolicyTraining<GroupStepEvent>['learn'] {
  const { model, optimizer } = of
  const { groupSize } = options
  return async (experience, { learningRate, seed }) => {
    const { responses, offsets, oldLogProbs } = experience
    const rewards = method.scores(experience)
    const { advantages: ofAnswers, withoutSpread } = await method.advantages(model, rewards, groupSize)
    const advantages = new Float64Array(oldLogProbs.length)
    for (const [i, advantage] of ofAnswers.entries()) advantages.fill(advantage, offsets[i], offsets[i + 1])
    const terms = { ...method.terms(experience), oldLogProbs, advantages }
    const [policy] = await updateFrom(
      [{ model, optimizer, learningRate, terms: (_, of) => policyTerms(terms, of) }],
      responses,
      offsets,
      {
        ...options,
        seed,
        stream: STREAM.update + experience.iteration * 1000,
        reduction: method.reduction,
        counted: method.counted(experience),
      },
    )
    return {
      policy: policy!,
      reward: rewards.reduce((sum, value) => sum + value, 0) / rewards.length,
      metrics: {
        withoutSpread: withoutSpread / (responses.length / groupSize),
        scoreSpread: spreadOf(experience.rewarded.total, groupSize),
      },
    }
  }
}

/** Mean over groups of the standard deviation of their scores. */
function spreadOf(scores: Float64Array, groupSize: number): number {
  let sum = 0
  for (let from = 0; from < scores.length; from += groupSize) {
    const group = scores.subarray(from, from + groupSize)
    const mean = group.reduce((total, value) => total + value, 0) / groupSize
    sum += Math.sqrt(group.reduce((total, value) => total + (value - mean) ** 2, 0) / groupSize)
  }
  return sum / (scores.length / groupSize)
}
