import { loadPrompts, type PromptReport } from '../data/prompts.js'
import { templateOf } from '../data/templates.js'
import type { CausalLM } from '../models/causal-lm.js'
import { AdamW } from '../optim/adamw.js'
import type { OptionInput, ResolvedOptions } from '../options/option.js'
import { resolveOptions } from '../options/validate.js'
import { type Reward, rewardSources } from '../rollout/rewards.js'
import { prepareAdapter } from './adapter.js'
import { partsOf } from './checkpoint.js'
import type { EndEvent, GroupStepEvent, TrainEvent } from './events.js'
import { grpoOptions, rlooOptions } from './policy-options.js'
import { type Experience, native, trainPolicy, UPDATE } from './policy-training.js'
import { type PolicyTerms, policyTerms, updateFrom } from './policy-update.js'
import { checkMiniBatches, promptLength } from './ppo.js'
import { frozenReference } from './reference.js'
import { Run, type RunControl } from './run.js'
import { sizeOf } from './sizes.js'

/** Options of `grpo`; `Row` types the columns of the prompts' rows that reward functions see. */
export type GrpoOptions<Row = Record<string, unknown>> = Omit<OptionInput<typeof grpoOptions>, 'reward'> & {
  reward: Reward<Row>
}

/** Options of `rloo`. */
export type RlooOptions<Row = Record<string, unknown>> = Omit<OptionInput<typeof rlooOptions>, 'reward'> & {
  reward: Reward<Row>
}

export type GroupRun = Run<GroupStepEvent, never, PromptReport>

/**
 * Group relative policy optimisation (Shao et al. 2024, arXiv 2402.03300): several answers to each prompt, each judged
 * against the others of its group; no critic. The loss of a token is -min(r A, clip(r, 1 - clipLow, 1 + clipHigh) A) +
 * klCoef r k3, reduced as `reduction` says. A group whose rewards agree teaches nothing and is reported.
 *
 * ```ts
 * const run = grpo({ model, reward: (samples) => samples.map(({ text }) => Number(/^[aeiou]/i.test(text))), data: 'prompts.jsonl', lora: {} })
 * for await (const event of run) if (event.type === 'step') console.log(event.step, event.score)
 * ```
 *
 * @throws PosttrainError as `ppo` does.
 */
export function grpo<Row = Record<string, unknown>>(options: GrpoOptions<Row>): GroupRun {
  const resolved = resolveOptions(grpoOptions, options as OptionInput<typeof grpoOptions>)
  const { clipLow, clipHigh, reduction, maskTruncated, klCoef, overlongTokens, maxNewTokens } = resolved
  const scaleRewards = resolved.scaleRewards ?? (reduction === 'drGrpo' ? 'none' : 'group')
  return new Run((control) =>
    train(
      resolved,
      {
        recipe: 'grpo',
        reduction,
        klLimit: resolved.klLimit,
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
      },
      control,
    ),
  )
}

/**
 * REINFORCE leave-one-out (Ahmadian et al. 2024, arXiv 2402.14740): several answers to each prompt, the reward of each
 * (its score minus klCoef times its KL) against the mean of the others; one ratio, clipped, for each whole answer.
 *
 * @throws PosttrainError as `ppo` does.
 */
export function rloo<Row = Record<string, unknown>>(options: RlooOptions<Row>): GroupRun {
  const resolved = resolveOptions(rlooOptions, options as OptionInput<typeof rlooOptions>)
  const { clip, klCoef, normalizeAdvantages } = resolved
  return new Run((control) =>
    train(
      resolved,
      {
        recipe: 'rloo',
        reduction: 'sequence',
        klLimit: resolved.klLimit,
        counted: ({ responses }) => responses.map(() => true),
        scores: ({ rewarded, kl }) => rewarded.total.map((score, i) => score - klCoef * kl[i]!),
        advantages: async (model, rewards, groupSize) => {
          const result = await native(model, (core) =>
            core.groupAdvantages({ rewards, groupSize, method: 'rloo' }),
          )
          if (!normalizeAdvantages) return result
          const advantages = await native(model, (core) =>
            core.whiten(result.advantages, { shiftMean: true }),
          )
          return { ...result, advantages }
        },
        terms: () => ({ clipLow: clip, clipHigh: clip, sequence: true, kl: null }),
      },
      control,
    ),
  )
}

/** Where the two differ. */
interface Method {
  recipe: 'grpo' | 'rloo'
  reduction: Parameters<typeof updateFrom>[3]['reduction']
  klLimit: number | undefined
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

type Resolved = ResolvedOptions<typeof grpoOptions> | ResolvedOptions<typeof rlooOptions>

async function* train(
  options: Resolved,
  method: Method,
  control: RunControl,
): AsyncGenerator<TrainEvent<GroupStepEvent, never, PromptReport>, EndEvent> {
  const { model, groupSize, batchSize } = options
  checkMiniBatches(batchSize * groupSize, options.miniBatches)
  const sources = rewardSources(options.reward, model)
  const template = await templateOf(options.template, model.tokenizer)
  const prompts = await loadPrompts(options.data, {
    ...options,
    tokenizer: model.tokenizer,
    template,
    maxLength: promptLength(model, options),
  })
  const adapted = await prepareAdapter(model, options)
  const held =
    options.klCoef === 0
      ? null
      : await frozenReference(model, {
          given: options.reference,
          added: options.lora !== undefined,
          name: 'reference',
        })
  const learningRate = options.learningRate ?? (adapted ? 1e-5 : 1e-6)
  const optimizer = new AdamW(model, {
    learningRate,
    beta1: options.beta1,
    beta2: options.beta2,
    eps: options.epsilon,
    weightDecay: options.weightDecay,
    decay: 'matrices',
  })
  const sizes = await sizeOf(model)
  try {
    return yield* trainPolicy(
      {
        recipe: method.recipe,
        model,
        options: { normalizeAdvantages: false, ...options, learningRate },
        prompts,
        template,
        sources,
        reference: held?.reference ?? null,
        groupSize,
        parts: partsOf(model, optimizer),
        klCoef: { start: options.klCoef, next: (coef) => coef },
        klLimit: method.klLimit,
        choices: { template: template.name, reward: sources.map(({ name, weight }) => ({ name, weight })) },
        parameters: sizes,
        async learn(experience, { learningRate: rate, seed }) {
          const { responses, offsets, oldLogProbs } = experience
          const rewards = method.scores(experience)
          const { advantages: ofAnswers, withoutSpread } = await method.advantages(model, rewards, groupSize)
          const advantages = new Float64Array(oldLogProbs.length)
          for (const [i, advantage] of ofAnswers.entries())
            advantages.fill(advantage, offsets[i], offsets[i + 1])
          const terms = { ...method.terms(experience), oldLogProbs, advantages }
          const [policy] = await updateFrom(
            [{ model, optimizer, learningRate: rate, terms: (_, of) => policyTerms(terms, of) }],
            responses,
            offsets,
            {
              ...options,
              seed,
              stream: UPDATE + experience.iteration * 1000,
              reduction: method.reduction,
              counted: method.counted(experience),
            },
          )
          const groups = responses.length / groupSize
          return {
            policy: policy!,
            reward: rewards.reduce((sum, value) => sum + value, 0) / rewards.length,
            metrics: {
              withoutSpread: withoutSpread / groups,
              scoreSpread: spreadOf(experience.rewarded.total, groupSize),
            },
          }
        },
        saveOthers: async () => undefined,
      },
      control,
    )
  } finally {
    await optimizer.dispose()
    if (held?.owned) await held.reference.dispose()
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
