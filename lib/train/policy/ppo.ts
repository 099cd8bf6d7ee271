import type { CausalLM } from '../../models/causal-lm.js'
import type { RewardModel } from '../../models/reward-model.js'
import type { AdamW } from '../../optim/adamw.js'
import type { ResolvedOptions } from '../../options/option.js'
import { STREAM } from '../../random.js'
import { valuesOf } from '../../rollout/experience.js'
import type { ppoOptions } from '../options/ppo.js'
import type { PpoStepEvent } from '../run/events.js'
import type { Experience } from './experience.js'
import { type LearningState, native, type PolicyTraining } from './state.js'
import { type Learner, policyTerms, updateFrom } from './update.js'

type Resolved = ResolvedOptions<typeof ppoOptions>

/** Who learns from a rollout, and how fast. */
export interface PpoRoles {
  model: CausalLM
  critic: RewardModel
  reference: CausalLM
  optimizers: { actor: AdamW; critic: AdamW }
  /** Learning rate of the critic by that of the actor. */
  criticRatio: number
  /** A reward model is among the rewards. */
  withModel: boolean
}

/** What PPO makes of an experience: rewards of each token, advantages, and the updates of actor and critic. */
export function ppoLearning(
  roles: PpoRoles,
  options: Omit<Resolved, 'model' | 'reward' | 'data'>,
): PolicyTraining<PpoStepEvent>['learn'] {
  const { model, critic, reference, optimizers } = roles
  const kl = klOf(options)
  return async (experience, { learningRate, state, seed }) => {
    const { responses, offsets } = experience
    const scores = finalScores(experience, options, roles.withModel, state)
    const referenceLogProbs = experience.referenceLogProbs!
    const earned = await rewardsPerToken(model, experience, scores, kl)
    const rewards = options.whitenRewards
      ? await native(model, (core) => core.whiten(earned, { shiftMean: false }))
      : earned
    const values = await valuesOf(critic, responses, options)
    const { gamma, lambda } = options
    const estimate = await native(model, (core) => core.gae({ rewards, values, offsets, gamma, lambda }))
    const advantages = options.whitenAdvantages
      ? await native(model, (core) => core.whiten(estimate.advantages, { shiftMean: true }))
      : estimate.advantages
    const actor: Learner = {
      model,
      optimizer: optimizers.actor,
      learningRate,
      terms: (_, of) =>
        policyTerms(
          {
            oldLogProbs: experience.oldLogProbs,
            advantages,
            clipLow: options.clip,
            clipHigh: options.clip,
            dualClip: options.dualClip,
            entropyCoef: options.entropyCoef,
            kl: kl.inLoss({ coefficient: experience.klCoef, referenceLogProbs, reference }),
          },
          of,
        ),
    }
    const value: Learner = {
      model: critic,
      optimizer: optimizers.critic,
      learningRate: learningRate * roles.criticRatio,
      terms: (_, of) => [
        { kind: 'ppoValue', clip: options.valueClip, oldValues: of(values), returns: of(estimate.returns) },
      ],
    }
    const warming = experience.iteration < options.criticWarmup
    const learned = await updateFrom(warming ? [value] : [actor, value], responses, offsets, {
      ...options,
      seed,
      stream: STREAM.update + experience.iteration * 1000,
      reduction: 'dapo',
      counted: responses.map(() => true),
    })
    const critical = learned.at(-1)!
    const policy = warming
      ? { sums: [], steps: 0, loss: 0, gradNorm: 0, failed: critical.failed }
      : { ...learned[0]!, failed: learned[0]!.failed ?? critical.failed }
    const sums = critical.sums[0] ?? { lossSum: 0, count: 0 }
    return {
      policy,
      reward: earned.reduce((sum, item) => sum + item, 0) / responses.length,
      metrics: {
        valueLoss: sums.lossSum / Math.max(1e-12, sums.count),
        valueClipFraction: (sums.clipped ?? 0) / Math.max(1e-12, sums.count),
        explainedVariance: explained(values, estimate.returns),
        valueGradNorm: critical.gradNorm,
      },
    }
  }
}

interface Kl {
  inReward: 'k1' | 'k3' | null
  inLoss(of: {
    coefficient: number
    referenceLogProbs: Float64Array
    reference: CausalLM
  }): Parameters<typeof policyTerms>[0]['kl']
}

function klOf({ kl }: Pick<Resolved, 'kl'>): Kl {
  const where = kl?.in ?? 'reward'
  if (where === 'reward') return { inReward: kl?.estimator === 'k3' ? 'k3' : 'k1', inLoss: () => null }
  const estimator = kl?.estimator ?? 'k2'
  const direction = kl?.direction ?? 'reverse'
  return {
    inReward: null,
    inLoss: ({ coefficient, referenceLogProbs, reference }) =>
      coefficient === 0
        ? null
        : estimator === 'full'
          ? { coefficient, estimator, direction, reference }
          : { coefficient, estimator: estimator === 'k3' ? 'k3' : 'k2', referenceLogProbs },
  }
}

/** Scores with what is done to them: the penalty of answers that did not end, normalisation, bounds. */
function finalScores(
  { responses, rewarded }: Experience,
  options: Pick<Resolved, 'missingEosPenalty' | 'scoreNormalize' | 'scoreClip'>,
  withModel: boolean,
  state: LearningState,
): Float64Array {
  const penalty =
    options.missingEosPenalty === undefined ? (withModel ? 1 : 0) : (options.missingEosPenalty ?? 0)
  const scores = Float64Array.from(rewarded.total)
  if (options.scoreNormalize) {
    const { scores: running } = state
    for (const score of scores) {
      running.count++
      const before = score - running.mean
      running.mean += before / running.count
      running.squares += before * (score - running.mean)
    }
    const deviation = Math.sqrt(running.squares / Math.max(1, running.count - 1)) + 1e-8
    for (const [i, score] of scores.entries()) scores[i] = (score - running.mean) / deviation
  }
  const bound = options.scoreClip ?? Number.POSITIVE_INFINITY
  for (const [i, { stopped }] of responses.entries()) {
    scores[i] = Math.min(bound, Math.max(-bound, scores[i]!)) - (stopped ? 0 : penalty)
  }
  return scores
}

async function rewardsPerToken(
  model: CausalLM,
  { oldLogProbs, referenceLogProbs, offsets, klCoef }: Experience,
  scores: Float64Array,
  kl: Kl,
): Promise<Float64Array> {
  return await native(model, (core) =>
    core.tokenRewards({
      logProbs: oldLogProbs,
      referenceLogProbs: referenceLogProbs!,
      scores,
      offsets,
      estimator: kl.inReward ?? 'k1',
      coefficient: kl.inReward === null ? 0 : klCoef,
    }),
  )
}

/** 1 - var(returns - values) / var(returns); 0 where the returns do not vary. */
function explained(values: Float64Array, returns: Float64Array): number {
  const variance = (list: Float64Array) => {
    const mean = list.reduce((sum, value) => sum + value, 0) / list.length
    return list.reduce((sum, value) => sum + (value - mean) ** 2, 0) / list.length
  }
  const whole = variance(returns)
  return whole === 0 ? 0 : 1 - variance(returns.map((value, i) => value - values[i]!)) / whole
}
