/*
 * RLHF by proximal policy optimization (PPO): Schulman et al. 2017 (arXiv 1707.06347) with the per-token KL penalty of
 * Stiennon et al. 2020 (arXiv 2009.01325) and Ouyang et al. 2022 (arXiv 2203.02155). `ppoIteration` below is one
 * iteration in order. Deviations from the papers:
 *
 *  1. Four models are four roles: with LoRA, actor, critic and reference share one frozen base. Actor and critic have
 *     disjoint parameters, with an optimizer and a learning rate each, so the value loss has no coefficient.
 *  2. The critic starts from the reward model if there is one (as in both RLHF papers), else from the actor's trunk with
 *     a zero head.
 *  3. Each prompt gets one response per iteration. Sampling is by temperature only. Every log-probability is that of
 *     logits / temperature.
 *  4. log p_old comes from a training forward before the first update. The sampler's own is used only for a metric.
 *  5. A response truncated at maxNewTokens is scored as a whole, minus `missingEosPenalty`. V is 0 after the last token,
 *     stopped or truncated.
 *  6. gamma is 1 and lambda 0.95. Advantages are whitened over all tokens of the rollout; rewards are not.
 *  7. Values are clipped around the old ones, log-ratios are clamped to 20, gradients are clipped to norm 1. The optimizer
 *     is AdamW.
 *  8. The entropy bonus is 0 by default. Pre-training gradients are not mixed in (PPO-ptx of Ouyang et al.).
 *  9. Options beyond the papers: klCoef adapted to a target (Ziegler et al. 2019), the KL as a term of the loss, dual clip,
 *     targetKl, scores normalized by their history, iterations that train only the critic.
 *
 * Deviations from TRL 1.9, the last with a PPO trainer:
 *
 * 10. The score is added at the last token of the response, the stop token included; in TRL one position later.
 * 11. The default temperature is 1, in TRL 0.7. The missing-EOS penalty is 1 with a reward model, in TRL off.
 * 12. Losses are means over the tokens of the whole mini-batch, however its forwards are batched, and gradients are
 *     clipped. TRL takes means of means and does not clip.
 * 13. The stop token is trained even if it is the pad token; nothing after it is.
 * 14. Rewards may be functions, and several. The critic and both optimizers are part of a checkpoint.
 */
import type { PromptReport } from '../data/index.js'
import { loadPrompts } from '../data/prompts.js'
import type { CausalLM } from '../models/causal-lm.js'
import { RewardModel } from '../models/reward-model.js'
import type { AdamW } from '../optim/adamw.js'
import type { OptionInput, ResolvedOptions } from '../options/option.js'
import { resolveOptions } from '../options/validate.js'
import { valuesOf } from '../rollout/responses.js'
import { type RewardSource, rewardSources, scoresOf } from '../rollout/rewards.js'
import { rollout } from '../rollout/rollout.js'
import type { PpoOptions } from './options/options.generated.js'
import { ppoOptions } from './options/ppo.js'
import { experienceOf } from './policy/experience.js'
import { klController, klInLoss, klInReward } from './policy/kl.js'
import { checkRolloutSize, promptLength } from './policy/limits.js'
import { trainPolicy } from './policy/loop.js'
import { native } from './policy/native.js'
import { finalScores } from './policy/scores.js'
import { policyTerms } from './policy/terms.js'
import type { Iteration } from './policy/training.js'
import { type Learned, type Learner, updateFrom } from './policy/update.js'
import { prepareAdapter } from './roles/adapter.js'
import { makeCritic, saveCritic } from './roles/critic.js'
import { frozenReference, refuseTrainedWeights } from './roles/reference.js'
import { Resources } from './roles/resources.js'
import { partsOf } from './run/checkpoint.js'
import type { EndEvent, PpoStepEvent, TrainEvent } from './run/events.js'
import { rowForm } from './run/row-form.js'
import { hasStarted, Run, type RunControl } from './run/run.js'
import { variance } from './run/sums.js'

type Resolved = ResolvedOptions<typeof ppoOptions>

/**
 * Reinforcement learning from human feedback (RLHF) by proximal policy optimization (Schulman et al. 2017, arXiv
 * 1707.06347; Ouyang et al. 2022, arXiv 2203.02155) with four models: the actor, which responds and is trained; the
 * critic, which predicts returns; the reward, which scores responses; the reference, which the KL penalty keeps the actor
 * close to.
 *
 * Each iteration samples one response to each of `batchSize` prompts, scores them, and trains actor and critic on them in
 * `epochs` passes of `miniBatches` optimizer steps. With `lora`, or an adapter in use, actor and critic train low-rank
 * updates and share the frozen base with the reference; else each model has its own weights. The critic starts from the
 * reward model if there is one, else from the actor's trunk with a zero head.
 *
 * ```ts
 * const run = ppo({ model, reward: (samples) => samples.map(({ text }) => -text.length), data: 'prompts.jsonl', lora: {} })
 * for await (const event of run) if (event.type === 'step') console.log(event.step, event.score, event.kl)
 * ```
 *
 * @throws PosttrainError ERR_INVALID_ARGUMENT at once for wrong options, and during the run for a reward that fails;
 * ERR_DATA, ERR_NON_FINITE, ERR_IO, ERR_OUT_OF_MEMORY; AbortError after `signal`.
 */
export function ppo<Row = Record<string, unknown>>(
  options: PpoOptions<Row>,
): Run<PpoStepEvent, never, PromptReport> {
  const resolved = resolveOptions(ppoOptions, options as unknown as OptionInput<typeof ppoOptions>)
  return new Run((control) => train(resolved, control))
}

async function* train(
  options: Resolved,
  control: RunControl,
): AsyncGenerator<TrainEvent<PpoStepEvent, never, PromptReport>, EndEvent> {
  const { model, batchSize, miniBatches } = options
  checkRolloutSize(batchSize, miniBatches)
  const sources = rewardSources(options.reward, model)
  const { form, choices, adopted } = await rowForm(options, model)
  const prompts = await loadPrompts(options.data, {
    ...options,
    tokenizer: model.tokenizer,
    ...form,
    maxLength: promptLength(options, sources),
  })
  await using resources = new Resources()
  const critic = resources.model(await makeCritic(options, sources))
  await using prepared = await prepareAdapter(model, options, hasStarted(control))
  const { adapted } = prepared
  for (const { name, reward } of sources)
    if (reward instanceof RewardModel) refuseTrainedWeights(reward, model, name)
  const { reference, owned } = await frozenReference(model, {
    given: options.reference,
    added: options.lora !== undefined,
  })
  if (owned) resources.model(reference)
  const learningRate = options.learningRate ?? (adapted ? 3e-5 : 3e-6)
  const actorOptimizer = resources.optimizer(model, { ...options, learningRate })
  const criticOptimizer = resources.optimizer(critic, { ...options, learningRate })
  const criticRatio = (options.criticLearningRate ?? 10 * learningRate) / learningRate
  const roles = { model, critic, reference, sources, actorOptimizer, criticOptimizer, criticRatio }
  return yield* trainPolicy(
    {
      recipe: 'ppo',
      model,
      options: { ...options, learningRate },
      // config.json has normalizeAdvantages in every recipe with rollouts, and a resume compares it.
      config: { ...options, learningRate, normalizeAdvantages: false, ...choices },
      prompts,
      template: adopted(prompts),
      sources,
      reference,
      groupSize: 1,
      parts: { ...partsOf(model, actorOptimizer), ...partsOf(critic, criticOptimizer, 'critic-') },
      klCoef: { start: options.klCoef, next: klController(options.kl?.target, options.kl?.horizon) },
      klLimit: options.kl?.limit,
      valueClip: options.scoreNormalize || (options.scoreClip ?? 6) <= 5 ? undefined : options.valueClip,
      ...ppoIteration(roles, options),
      saveOthers: ({ critic: path }) => saveCritic(critic, path, options.saveDtype),
    },
    control,
  )
}

/** Models, rewards and optimizers of an iteration. */
export interface PpoRoles {
  model: CausalLM
  critic: RewardModel
  reference: CausalLM
  sources: readonly RewardSource[]
  actorOptimizer: AdamW
  criticOptimizer: AdamW
  /** Learning rate of the critic divided by that of the actor. */
  criticRatio: number
}

/** One iteration of PPO, in order: B responses of N tokens in all. */
export function ppoIteration(
  roles: PpoRoles,
  options: Omit<Resolved, 'model' | 'reward' | 'data'>,
): Iteration<PpoStepEvent> {
  const { model, critic, reference, sources } = roles
  const withModel = sources.some(({ reward }) => reward instanceof RewardModel)
  const missingEosPenalty =
    options.missingEosPenalty === undefined ? Number(withModel) : (options.missingEosPenalty ?? 0)
  const whiten = (values: Float64Array, shiftMean: boolean) =>
    native(model, (core) => core.whiten(values, { shiftMean }))
  return {
    async draw({ prompts, seed, step, signal, timed }) {
      // 1. Rollout: a response to each prompt, sampled from softmax(logits / temperature).
      const responses = await timed('rollout', () => rollout(model, prompts, { ...options, seed, signal }))

      // 2. Scores of whole responses: the weighted sum of reward models and functions, [B].
      const { batchTokens, rewardTimeoutMs: timeoutMs } = options
      const judging = { batchTokens, timeoutMs, step, signal }
      const scores = await timed('score', () => scoresOf(sources, responses, judging))

      // 3. log p_old and log p_ref of each token by a training forward, [N].
      const drawn = { responses, scores }
      return await timed('score', () => experienceOf({ model, reference }, drawn, { ...options, signal }))
    },

    async learn(experience, at) {
      const { responses, offsets, oldLogProbs } = experience
      const referenceLogProbs = experience.referenceLogProbs!

      // 4. Rewards of tokens: r_t = -klCoef k1_t with k1 = log p_old - log p_ref, and the final score at the last token
      //    (native/rollout/advantages.cpp, token_rewards).
      const scores = finalScores(experience, { ...options, missingEosPenalty }, at.scores)
      const penalty = klInReward(options.kl, at.klCoef)
      const earned = await native(model, (core) =>
        core.tokenRewards({ logProbs: oldLogProbs, referenceLogProbs, scores, offsets, ...penalty }),
      )
      const rewards = options.whitenRewards ? await whiten(earned, false) : earned

      // 5. Advantages: delta_t = r_t + gamma V_{t+1} - V_t, A_t = delta_t + gamma lambda A_{t+1}, returns A + V; then
      //    (A - mean) / sqrt(variance + 1e-8) over all tokens (native/rollout/advantages.cpp, gae and whiten).
      const values = await valuesOf(critic, responses, options)
      const { gamma, lambda } = options
      const estimate = await native(model, (core) => core.gae({ rewards, values, offsets, gamma, lambda }))
      const { returns } = estimate
      const advantages = options.whitenAdvantages
        ? await whiten(estimate.advantages, true)
        : estimate.advantages

      // 6. Updates: the actor's loss is the mean of max(-A ratio, -A clip(ratio, 1 - clip, 1 + clip)), the critic's half the
      //    mean of max((v - R)^2, (clip(v, v_old - valueClip, v_old + valueClip) - R)^2) (native/losses/ppo.cpp).
      const kl = klInLoss(options.kl, at.klCoef, { reference, referenceLogProbs })
      const { clip, dualClip, entropyCoef, valueClip } = options
      const actorLoss = { oldLogProbs, advantages, clipLow: clip, clipHigh: clip, dualClip, entropyCoef, kl }
      const actor: Learner = {
        model,
        optimizer: roles.actorOptimizer,
        learningRate: at.learningRate,
        terms: (of) => policyTerms(actorLoss, of),
      }
      const valueLearner: Learner = {
        model: critic,
        optimizer: roles.criticOptimizer,
        learningRate: at.learningRate * roles.criticRatio,
        terms: (of) => [{ kind: 'ppoValue', clip: valueClip, oldValues: of(values), returns: of(returns) }],
      }
      const learners = at.iteration < options.criticWarmup ? [valueLearner] : [actor, valueLearner]
      const learned = await updateFrom(learners, experience, {
        ...options,
        iteration: at.iteration,
        reduction: 'dapo',
        counted: responses.map(() => true),
      })

      // 7. Metrics of the iteration.
      const ofCritic = learned.at(-1)!
      const ofActor = learned.length === 2 ? learned[0]! : NOTHING_LEARNED
      return {
        policy: { ...ofActor, failed: ofActor.failed ?? ofCritic.failed },
        reward: earned.reduce((sum, reward) => sum + reward, 0) / responses.length,
        metrics: criticMetrics(ofCritic, values, returns),
      }
    },
  }
}

/** Result of the actor in an iteration that trains only the critic. */
const NOTHING_LEARNED: Learned = { sums: [], steps: 0, loss: 0, gradNorm: 0, failed: null }

function criticMetrics({ sums, gradNorm }: Learned, values: Float64Array, returns: Float64Array) {
  const { lossSum, count, clipped = 0 } = sums[0] ?? { lossSum: 0, count: 0 }
  const spread = variance(returns)
  return {
    valueLoss: lossSum / Math.max(1e-12, count),
    valueClipFraction: clipped / Math.max(1e-12, count),
    explainedVariance:
      spread === 0 ? 0 : 1 - variance(returns.map((value, i) => value - values[i]!)) / spread,
    valueGradNorm: gradNorm,
  }
}
