/*
 * GRPO (Shao et al. 2024, DeepSeekMath, arXiv 2402.03300) and RLOO (Ahmadian et al. 2024, arXiv 2402.14740): each response
 * is compared with the other responses to its prompt, without a critic. `groupIteration` below is one iteration of both
 * in order; `grpoMethod` and `rlooMethod` are the differences. Deviations of GRPO from its paper:
 *
 *  1. The loss is a mean over the tokens of the optimizer step (reduction 'dapo', arXiv 2503.14476). The paper takes a mean
 *     of the means of responses (reduction 'grpo'). TRL divides by the tokens of the whole generation batch.
 *  2. klCoef is 0 by default, without a reference (paper: 0.04). Otherwise k3 is multiplied by the ratio, which is
 *     differentiated too, so that the gradient of the KL is unbiased after the policy has moved (also TRL's default).
 *  3. The ratio has two clip ranges, `clipLow` and `clipHigh` (DAPO), equal by default.
 *  4. Scores are of whole responses, without process supervision. The default is one pass over each rollout.
 *  5. Advantages are divided by the unbiased standard deviation + 1e-4. A group whose rewards differ by at most 1e-8 has
 *     advantages of exactly 0; its tokens still count in the mean.
 *  6. Options beyond the paper: `scaleRewards` by the batch or not at all (Dr. GRPO, arXiv 2503.20783), `maskTruncated` and
 *     `overlongTokens` (DAPO).
 *
 * Deviations of RLOO from its paper:
 *
 *  7. The ratio of a whole response is clipped, which allows several passes over a rollout. With one update it is the
 *     paper's REINFORCE.
 *  8. The KL of a whole response, log p_old - log p_ref summed over its tokens, is part of its reward and is not
 *     differentiated.
 *
 * In both, log p_old comes from a training forward before the first update, and sampling is by temperature only.
 */
import { loadPrompts, type PromptReport } from '../data/prompts.js'
import type { Reduction } from '../losses/group.js'
import type { CausalLM } from '../models/causal-lm.js'
import { RewardModel } from '../models/reward-model.js'
import type { AdamW } from '../optim/adamw.js'
import type { OptionInput, ResolvedOptions } from '../options/option.js'
import { resolveOptions } from '../options/validate.js'
import { isJudged, type RewardSource, rewardSources, scoresOf } from '../rollout/rewards.js'
import { rollout } from '../rollout/rollout.js'
import { grpoOptions, rlooOptions } from './options/group.js'
import type { GrpoOptions, RlooOptions } from './options/options.generated.js'
import { type Experience, experienceOf } from './policy/experience.js'
import { groupAdvantages, judgedMean, type OfGroups, spreadOfGroups } from './policy/groups.js'
import { checkRolloutSize, promptLength } from './policy/limits.js'
import { trainPolicy } from './policy/loop.js'
import { native } from './policy/native.js'
import { withoutOverlong } from './policy/scores.js'
import { type PolicyLoss, policyTerms } from './policy/terms.js'
import type { Iteration } from './policy/training.js'
import { updateFrom } from './policy/update.js'
import { prepareAdapter } from './roles/adapter.js'
import { frozenReference, refuseTrainedWeights } from './roles/reference.js'
import { Resources } from './roles/resources.js'
import { partsOf } from './run/checkpoint.js'
import type { EndEvent, GroupStepEvent, TrainEvent } from './run/events.js'
import { rowForm } from './run/row-form.js'
import { hasStarted, Run, type RunControl } from './run/run.js'

export type GroupRun = Run<GroupStepEvent, never, PromptReport>

/**
 * Group relative policy optimization (GRPO; Shao et al. 2024, arXiv 2402.03300): several responses to each prompt, with
 * advantages relative to their group and no critic. The loss of a token is -min(r A, clip(r, 1 - clipLow, 1 + clipHigh) A)
 * + klCoef r k3, averaged according to `reduction`. In groups with equal rewards advantages are 0; their share is reported.
 *
 * ```ts
 * const run = grpo({ model, reward: (samples) => samples.map(({ text }) => Number(/^[aeiou]/i.test(text))), data: 'prompts.jsonl', lora: {} })
 * for await (const event of run) if (event.type === 'step') console.log(event.step, event.score)
 * ```
 *
 * @throws PosttrainError as `ppo` does.
 */
export function grpo<Row = Record<string, unknown>>(options: GrpoOptions<Row>): GroupRun {
  const resolved = resolveOptions(grpoOptions, options as unknown as OptionInput<typeof grpoOptions>)
  return new Run((control) => train(resolved, grpoMethod(resolved), control))
}

/**
 * REINFORCE leave-one-out (RLOO; Ahmadian et al. 2024, arXiv 2402.14740): several responses to each prompt. The reward of
 * a response is its score minus klCoef times its KL; its baseline is the mean reward of the others. The ratio is one per
 * response, clipped.
 *
 * @throws PosttrainError as `ppo` does.
 */
export function rloo<Row = Record<string, unknown>>(options: RlooOptions<Row>): GroupRun {
  const resolved = resolveOptions(rlooOptions, options as unknown as OptionInput<typeof rlooOptions>)
  return new Run((control) => train(resolved, rlooMethod(resolved), control))
}

type Grpo = ResolvedOptions<typeof grpoOptions>
type Rloo = ResolvedOptions<typeof rlooOptions>

async function* train(
  options: Grpo | Rloo,
  method: GroupMethod,
  control: RunControl,
): AsyncGenerator<TrainEvent<GroupStepEvent, never, PromptReport>, EndEvent> {
  const { model, groupSize, batchSize } = options
  checkRolloutSize(batchSize * groupSize, options.miniBatches)
  const sources = rewardSources(options.reward, model)
  const { form, choices, adopted } = await rowForm(options, model)
  const prompts = await loadPrompts(options.data, {
    ...options,
    tokenizer: model.tokenizer,
    ...form,
    maxLength: promptLength(options, sources),
  })
  await using resources = new Resources()
  await using prepared = await prepareAdapter(model, options, hasStarted(control))
  const { adapted } = prepared
  for (const { name, reward } of sources)
    if (reward instanceof RewardModel) refuseTrainedWeights(reward, model, name)
  let reference: CausalLM | null = null
  if (options.klCoef !== 0) {
    const held = await frozenReference(model, {
      given: options.reference,
      added: options.lora !== undefined,
    })
    reference = held.owned ? resources.model(held.reference) : held.reference
  }
  const learningRate = options.learningRate ?? (adapted ? 1e-5 : 1e-6)
  const optimizer = resources.optimizer(model, { ...options, learningRate })
  return yield* trainPolicy(
    {
      recipe: method.recipe,
      model,
      options: { ...options, learningRate },
      // config.json has normalizeAdvantages in every recipe with rollouts, and a resume compares it.
      config: { normalizeAdvantages: false, ...options, learningRate, ...choices },
      prompts,
      template: adopted(prompts),
      sources,
      reference,
      groupSize,
      parts: partsOf(model, optimizer),
      klCoef: { start: options.klCoef, next: (coef) => coef },
      klLimit: options.klLimit,
      ...groupIteration({ model, reference, sources, optimizer }, method, options),
    },
    control,
  )
}

/** Models, rewards and optimizer of an iteration. */
export interface GroupRoles {
  model: CausalLM
  reference: CausalLM | null
  sources: readonly RewardSource[]
  optimizer: AdamW
}

/** The differences between GRPO and RLOO. */
export interface GroupMethod {
  recipe: 'grpo' | 'rloo'
  reduction: Reduction | 'sequence'
  /** Whether each response counts in the loss, [B]. */
  counted(experience: Experience): boolean[]
  /** Rewards: scores with penalties, [B]. */
  rewards(experience: Experience): Float64Array
  /** Advantages of the responses, each compared with its group. */
  advantages(model: CausalLM, rewards: Float64Array, groupSize: number): Promise<OfGroups>
  loss(experience: Experience): Omit<PolicyLoss, 'oldLogProbs' | 'advantages'>
}

/** One iteration of GRPO or RLOO, in order: B responses in groups of G, of N tokens in all. */
export function groupIteration(
  { model, reference, sources, optimizer }: GroupRoles,
  method: GroupMethod,
  options: Omit<Grpo | Rloo, 'model' | 'reward' | 'data'>,
): Iteration<GroupStepEvent> {
  const { groupSize } = options
  return {
    async draw({ prompts, seed, step, signal, timed }) {
      // 1. Rollout: G responses to each prompt, sampled from softmax(logits / temperature).
      const responses = await timed('rollout', () => rollout(model, prompts, { ...options, seed, signal }))

      // 2. Scores of whole responses: the weighted sum of reward models and functions, [B].
      const { batchTokens, rewardTimeoutMs: timeoutMs } = options
      const judging = { batchTokens, timeoutMs, step, signal }
      const scores = await timed('score', () => scoresOf(sources, responses, judging))

      // 3. log p_old and, with klCoef, log p_ref of each token by a training forward, [N].
      const drawn = { responses, scores }
      return await timed('score', () => experienceOf({ model, reference }, drawn, { ...options, signal }))
    },

    async learn(experience, at) {
      const { responses, offsets, oldLogProbs } = experience

      // 4. Rewards of responses, and their advantages in their group (native/rollout/advantages.cpp).
      const rewards = method.rewards(experience)
      const ofGroups = await method.advantages(model, rewards, groupSize)
      const advantages = new Float64Array(oldLogProbs.length)
      for (const [i, advantage] of ofGroups.advantages.entries())
        advantages.fill(advantage, offsets[i], offsets[i + 1])

      // 5. Updates: the clipped policy loss, with GRPO's KL penalty (native/losses/ppo.cpp and kl.cpp).
      const loss = { ...method.loss(experience), oldLogProbs, advantages }
      const { learningRate, iteration } = at
      const terms = (of: (values: Float64Array) => Float64Array) => policyTerms(loss, of)
      const [policy] = await updateFrom([{ model, optimizer, learningRate, terms }], experience, {
        ...options,
        iteration,
        reduction: method.reduction,
        counted: method.counted(experience).map((counts, i) => counts && isJudged(rewards[i]!)),
      })

      // 6. Metrics of the iteration.
      return {
        policy: policy!,
        reward: judgedMean(rewards),
        metrics: {
          withoutSpread: ofGroups.withoutSpread / (responses.length / groupSize),
          scoreSpread: spreadOfGroups(experience.scores.total, groupSize),
        },
      }
    },
  }
}

/** A = (reward - mean of its group) / (standard deviation of its group + 1e-4). */
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
  const { clipLow, clipHigh, reduction, maskTruncated, klCoef } = options
  const scaleRewards = options.scaleRewards ?? (reduction === 'drGrpo' ? 'none' : 'group')
  return {
    recipe: 'grpo',
    reduction,
    counted: ({ responses }) => responses.map(({ stopped }) => stopped || !maskTruncated),
    rewards: (experience) => withoutOverlong(experience, options),
    advantages: (model, rewards, groupSize) =>
      groupAdvantages(model, rewards, groupSize, { method: 'grpo', scaleRewards }),
    loss: ({ referenceLogProbs }) => ({
      clipLow,
      clipHigh,
      kl: referenceLogProbs && { coefficient: klCoef, estimator: 'k3', referenceLogProbs },
    }),
  }
}

/** A = reward - mean of the other rewards of its group, with reward = score - klCoef KL. */
export function rlooMethod(options: Pick<Rloo, 'clip' | 'klCoef' | 'normalizeAdvantages'>): GroupMethod {
  const { clip, klCoef, normalizeAdvantages } = options
  return {
    recipe: 'rloo',
    reduction: 'sequence',
    counted: ({ responses }) => responses.map(() => true),
    rewards: ({ scores, kl }) => scores.total.map((score, i) => score - klCoef * kl[i]!),
    advantages: async (model, rewards, groupSize) => {
      const result = await groupAdvantages(model, rewards, groupSize, { method: 'rloo' })
      if (!normalizeAdvantages) return result
      const mask = Uint8Array.from(rewards, (reward) => Number(isJudged(reward)))
      const advantages = await native(model, (core) =>
        core.whiten(result.advantages, { mask, shiftMean: true }),
      )
      return { ...result, advantages }
    },
    loss: () => ({ clipLow: clip, clipHigh: clip, sequence: true, kl: null }),
  }
}
