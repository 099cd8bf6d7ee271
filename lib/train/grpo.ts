import { loadPrompts, type PromptReport } from '../data/prompts.js'
import { templateOf } from '../data/text/templates.js'
import type { CausalLM } from '../models/causal-lm.js'
import { RewardModel } from '../models/reward-model.js'
import type { OptionInput, ResolvedOptions } from '../options/option.js'
import { resolveOptions } from '../options/validate.js'
import { type Judged, rewardSources } from '../rollout/rewards.js'
import { grpoOptions, rlooOptions } from './options/group.js'
import { type GroupMethod, groupLearning, grpoMethod, rlooMethod } from './policy/group.js'
import { trainPolicy } from './policy/loop.js'
import { checkMiniBatches, Made, promptLength, readersOf } from './policy/setup.js'
import { hasStarted, prepareAdapter } from './roles/adapter.js'
import { frozenReference, refuseTrainedWeights } from './roles/reference.js'
import { partsOf } from './run/checkpoint.js'
import type { EndEvent, GroupStepEvent, TrainEvent } from './run/events.js'
import { Run, type RunControl } from './run/run.js'
import { sizeOf } from './run/sizes.js'

/** Options of `grpo`; `Row` types the columns of the prompts' rows that reward functions see. */
export type GrpoOptions<Row = Record<string, unknown>> = Omit<
  OptionInput<typeof grpoOptions>,
  'reward' | 'data'
> &
  Judged<Row>

/** Options of `rloo`. */
export type RlooOptions<Row = Record<string, unknown>> = Omit<
  OptionInput<typeof rlooOptions>,
  'reward' | 'data'
> &
  Judged<Row>

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
  const resolved = resolveOptions(grpoOptions, options as unknown as OptionInput<typeof grpoOptions>)
  return new Run((control) => train(resolved, grpoMethod(resolved), control))
}

/**
 * REINFORCE leave-one-out (Ahmadian et al. 2024, arXiv 2402.14740): several answers to each prompt, the reward of each
 * (its score minus klCoef times its KL) against the mean of the others; one ratio, clipped, for each whole answer.
 *
 * @throws PosttrainError as `ppo` does.
 */
export function rloo<Row = Record<string, unknown>>(options: RlooOptions<Row>): GroupRun {
  const resolved = resolveOptions(rlooOptions, options as unknown as OptionInput<typeof rlooOptions>)
  return new Run((control) => train(resolved, rlooMethod(resolved), control))
}

type Resolved = ResolvedOptions<typeof grpoOptions> | ResolvedOptions<typeof rlooOptions>

async function* train(
  options: Resolved,
  method: GroupMethod,
  control: RunControl,
): AsyncGenerator<TrainEvent<GroupStepEvent, never, PromptReport>, EndEvent> {
  const { model, groupSize, batchSize } = options
  checkMiniBatches(batchSize * groupSize, options.miniBatches)
  const sources = rewardSources(options.reward, model)
  const template = await templateOf(options.template, model)
  const prompts = await loadPrompts(options.data, {
    ...options,
    tokenizer: model.tokenizer,
    template,
    maxLength: promptLength(readersOf(options, sources), options),
  })
  await using made = new Made()
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
    reference = held.owned ? made.model(held.reference) : held.reference
  }
  const learningRate = options.learningRate ?? (adapted ? 1e-5 : 1e-6)
  const optimizer = made.optimizer(model, { ...options, learningRate })
  return yield* trainPolicy(
    {
      recipe: method.recipe,
      model,
      options: { normalizeAdvantages: false, ...options, learningRate },
      prompts,
      template,
      sources,
      reference,
      groupSize,
      parts: partsOf(model, optimizer),
      klCoef: { start: options.klCoef, next: (coef) => coef },
      klLimit: options.klLimit,
      choices: { template: template.name },
      parameters: await sizeOf(model),
      learn: groupLearning({ model, optimizer }, method, options),
      saveOthers: async () => undefined,
    },
    control,
  )
}
