import type { PromptReport } from '../data/index.js'
import { loadPrompts } from '../data/prompts.js'
import { templateOf } from '../data/templates.js'
import { PosttrainError } from '../errors.js'
import { type CausalLM, roleOf } from '../models/causal-lm.js'
import { RewardModel } from '../models/reward-model.js'
import { AdamW } from '../optim/adamw.js'
import type { OptionInput, ResolvedOptions } from '../options/option.js'
import { resolveOptions } from '../options/validate.js'
import { valuesOf } from '../rollout/experience.js'
import { type Reward, rewardSources } from '../rollout/rewards.js'
import { prepareAdapter } from './adapter.js'
import { partsOf } from './checkpoint.js'
import type { EndEvent, PpoStepEvent, TrainEvent } from './events.js'
import { ppoOptions } from './policy-options.js'
import { type Experience, native, type PolicyState, trainPolicy, UPDATE } from './policy-training.js'
import { type Learner, policyTerms, updateFrom } from './policy-update.js'
import { frozenReference } from './reference.js'
import { Run, type RunControl } from './run.js'
import { sizeOf } from './sizes.js'
import { saveResult } from './supervised-training.js'

/** Options of `ppo`; `Row` types the columns of the prompts' rows that reward functions see. */
export type PpoOptions<Row = Record<string, unknown>> = Omit<OptionInput<typeof ppoOptions>, 'reward'> & {
  reward: Reward<Row>
}

type Resolved = ResolvedOptions<typeof ppoOptions>

/**
 * Reinforcement learning from (human) feedback by proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347;
 * Ouyang et al. 2022, arXiv 2203.02155) with four models: the actor that answers and is trained, the critic that
 * foretells its score, the reward that gives it, and the reference from which the actor shall not stray.
 *
 * Each iteration draws one answer to each of `batchSize` prompts, scores them, and trains actor and critic on them for
 * `epochs` passes in `miniBatches` steps. With `lora`, or an adapter in use, actor and critic train low-rank updates and
 * share the frozen base with the reference; else each model holds its own weights. The critic starts from the reward
 * model where there is one, else from the actor's trunk with a zero head.
 *
 * ```ts
 * const run = ppo({ model, reward: (samples) => samples.map(({ text }) => -text.length), data: 'prompts.jsonl', lora: {} })
 * for await (const event of run) if (event.type === 'step') console.log(event.step, event.score, event.kl)
 * ```
 *
 * @throws PosttrainError ERR_INVALID_ARGUMENT for wrong options at once, and for a reward that fails while it runs;
 * ERR_DATA, ERR_NON_FINITE, ERR_IO, ERR_OUT_OF_MEMORY; AbortError after `signal`.
 */
export function ppo<Row = Record<string, unknown>>(
  options: PpoOptions<Row>,
): Run<PpoStepEvent, never, PromptReport> {
  const resolved = resolveOptions(ppoOptions, options as OptionInput<typeof ppoOptions>)
  return new Run((control) => train(resolved, control))
}

async function* train(
  options: Resolved,
  control: RunControl,
): AsyncGenerator<TrainEvent<PpoStepEvent, never, PromptReport>, EndEvent> {
  const { model, batchSize, epochs, miniBatches } = options
  checkMiniBatches(batchSize, miniBatches)
  const sources = rewardSources(options.reward, model)
  const template = await templateOf(options.template, model.tokenizer)
  const prompts = await loadPrompts(options.data, {
    ...options,
    tokenizer: model.tokenizer,
    template,
    maxLength: promptLength(model, options),
  })
  const added = options.lora !== undefined
  // The critic comes first: it copies weights that are not frozen yet.
  const critic = await makeCritic(options, sources)
  const adapted = await prepareAdapter(model, options)
  const { reference, owned } = await frozenReference(model, {
    given: options.reference,
    added,
    name: 'reference',
  })
  const learningRate = options.learningRate ?? (adapted ? 3e-5 : 3e-6)
  const criticRatio = (options.criticLearningRate ?? 10 * learningRate) / learningRate
  const adamw = { beta1: options.beta1, beta2: options.beta2, eps: options.epsilon }
  const optimizerOf = (of: CausalLM | RewardModel) =>
    new AdamW(of, { learningRate, weightDecay: options.weightDecay, decay: 'matrices', ...adamw })
  const actorOptimizer = optimizerOf(model)
  const criticOptimizer = optimizerOf(critic)
  const kl = klOf(options)
  const { target, horizon = 10_000 } = options.kl ?? {}
  const sizes = await sizeOf(model)
  try {
    return yield* trainPolicy(
      {
        recipe: 'ppo',
        model,
        options: { ...options, learningRate, normalizeAdvantages: false, klLimit: undefined },
        prompts,
        template,
        sources,
        reference,
        groupSize: 1,
        parts: {
          ...partsOf(model, actorOptimizer),
          ...partsOf(critic, criticOptimizer, 'critic-'),
        },
        klCoef: {
          start: options.klCoef,
          // Ziegler et al. 2019, arXiv 1909.08593.
          next: (coef, value, answers) =>
            target === undefined
              ? coef
              : coef * (1 + (Math.min(0.2, Math.max(-0.2, value / target - 1)) * answers) / horizon),
        },
        klLimit: options.kl?.limit,
        choices: { template: template.name, reward: sources.map(({ name, weight }) => ({ name, weight })) },
        parameters: sizes,
        async learn(experience, { learningRate: rate, state, seed }) {
          const { responses, offsets } = experience
          const scores = finalScores(experience, options, state)
          const referenceLogProbs = experience.referenceLogProbs!
          const rewards = await rewardsPerToken(model, experience, scores, kl, options)
          const values = await valuesOf(critic, responses, options)
          const { gamma, lambda } = options
          const estimate = await native(model, (core) =>
            core.gae({ rewards, values, offsets, gamma, lambda }),
          )
          const advantages = options.whitenAdvantages
            ? await native(model, (core) => core.whiten(estimate.advantages, { shiftMean: true }))
            : estimate.advantages
          const actor: Learner = {
            model,
            optimizer: actorOptimizer,
            learningRate: rate,
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
            optimizer: criticOptimizer,
            learningRate: rate * criticRatio,
            terms: (_, of) => [
              {
                kind: 'ppoValue',
                clip: options.valueClip,
                oldValues: of(values),
                returns: of(estimate.returns),
              },
            ],
          }
          const warming = experience.iteration < options.criticWarmup
          const learned = await updateFrom(warming ? [value] : [actor, value], responses, offsets, {
            ...options,
            epochs,
            miniBatches,
            seed,
            stream: UPDATE + experience.iteration * 1000,
            reduction: 'dapo',
            counted: responses.map(() => true),
          })
          const critical = learned.at(-1)!
          const policy = warming
            ? { sums: [], steps: 0, loss: 0, gradNorm: 0, failed: critical.failed }
            : { ...learned[0]!, failed: learned[0]!.failed ?? critical.failed }
          const sums = critical.sums[0] ?? { loss: 0, count: 0 }
          return {
            policy,
            reward: Array.from(rewards).reduce((sum, item) => sum + item, 0) / responses.length,
            metrics: {
              valueLoss: sums.loss / Math.max(1e-12, sums.count),
              valueClipFraction: (sums.clipped ?? 0) / Math.max(1e-12, sums.count),
              explainedVariance: explained(values, estimate.returns),
              valueGradNorm: critical.gradNorm,
            },
          }
        },
        saveOthers: async ({ critic: path }) => {
          await saveResult(critic, { model: path, adapter: path }, options.saveDtype, criticPad(critic))
        },
      },
      control,
    )
  } finally {
    await actorOptimizer.dispose()
    await criticOptimizer.dispose()
    await critic.dispose()
    if (owned) await reference.dispose()
  }
}

/** A critic is read at every token, so any token may pad where the tokenizer has no special one to spare. */
function criticPad({ tokenizer }: RewardModel): string | undefined {
  const spare = tokenizer.specialTokens.some(({ id }) => id !== tokenizer.eosId)
  return spare ? undefined : tokenizer.idToToken(tokenizer.eosId === 0 ? 1 : 0)
}

/** What a rollout must at least have for its mini-batches. */
export function checkMiniBatches(answers: number, miniBatches: number): void {
  if (miniBatches <= answers) return
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `miniBatches ${miniBatches} is more than the ${answers} answers of a rollout`,
  )
}

/** Tokens of a prompt at most, so that the answer has room. */
export function promptLength(
  model: CausalLM,
  { maxPromptLength, maxNewTokens }: { maxPromptLength?: number | undefined; maxNewTokens: number },
): number {
  const room = (model.contextLength ?? Number.POSITIVE_INFINITY) - maxNewTokens
  if (room < 1) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `maxNewTokens ${maxNewTokens} leaves no room for a prompt in the model's context of ${model.contextLength}`,
    )
  }
  return Math.min(room, maxPromptLength ?? Number.POSITIVE_INFINITY)
}

/** The critic, on weights of its own or as low-rank updates of those of the reward model or the actor. */
async function makeCritic(options: Resolved, sources: readonly { reward: unknown }[]): Promise<RewardModel> {
  const { model, critic: given, seed } = options
  const start = given ?? sources.map(({ reward }) => reward).find((reward) => reward instanceof RewardModel)
  const adapted = options.lora !== undefined || model.adapter !== null
  if (!adapted) {
    if (start) {
      if (start.adapter !== null) {
        throw new PosttrainError(
          'ERR_INVALID_ARGUMENT',
          'the reward model stands on an adapter, from which a critic with weights of its own cannot start: merge it first (posttrain merge), or train with lora',
        )
      }
      return await start.clone()
    }
    const trunk = await model.clone()
    const critic = await RewardModel.fromCausalLM(trunk, { seed: null })
    await trunk.dispose()
    return critic
  }
  const lora = options.lora ?? loraOf(model)
  if (!start) {
    const critic = await RewardModel.fromCausalLM(model, { seed: null })
    await critic.addAdapter('critic', { ...lora, seed: seed + 1 })
    return critic
  }
  if (start.adapter === null) {
    const critic = await start.view()
    await critic.addAdapter('critic', { ...lora, seed: seed + 1 })
    return critic
  }
  const critic = await start.view({ adapter: start.adapter })
  await critic.copyAdapter(start.adapter, 'critic')
  await critic.setAdapter('critic')
  return critic
}

/** Options of an adapter like the one in use. */
function loraOf(model: CausalLM) {
  const { rank, alpha, rsLora, dora } = roleOf(model).adapterConfig!
  return { rank, alpha, rsLora, dora }
}

interface Kl {
  inReward: 'k1' | 'k3' | null
  inLoss(of: {
    coefficient: number
    referenceLogProbs: Float64Array
    reference: CausalLM
  }): Parameters<typeof policyTerms>[0]['kl']
}

function klOf({ kl }: Resolved): Kl {
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
  options: Resolved,
  state: PolicyState,
): Float64Array {
  const withModel = Object.keys(rewarded.bySource).length > 0 && isModel(options.reward)
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

function isModel(reward: unknown): boolean {
  if (Array.isArray(reward))
    return reward.some((item: { reward: unknown }) => item.reward instanceof RewardModel)
  return reward instanceof RewardModel
}

async function rewardsPerToken(
  model: CausalLM,
  { oldLogProbs, referenceLogProbs, offsets, klCoef }: Experience,
  scores: Float64Array,
  kl: Kl,
  { whitenRewards }: Resolved,
): Promise<Float64Array> {
  const rewards = await native(model, (core) =>
    core.tokenRewards({
      logProbs: oldLogProbs,
      referenceLogProbs: referenceLogProbs!,
      scores,
      offsets,
      estimator: kl.inReward ?? 'k1',
      coefficient: kl.inReward === null ? 0 : klCoef,
    }),
  )
  return whitenRewards ? await native(model, (core) => core.whiten(rewards, { shiftMean: false })) : rewards
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
