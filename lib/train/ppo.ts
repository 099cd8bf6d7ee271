import type { PromptReport } from '../data/index.js'
import { loadPrompts } from '../data/prompts.js'
import { templateOf } from '../data/text/templates.js'
import { RewardModel } from '../models/reward-model.js'
import type { OptionInput, ResolvedOptions } from '../options/option.js'
import { resolveOptions } from '../options/validate.js'
import { type Judged, rewardSources } from '../rollout/rewards.js'
import { ppoOptions } from './options/ppo.js'
import { trainPolicy } from './policy/loop.js'
import { ppoLearning } from './policy/ppo.js'
import { checkMiniBatches, Made, promptLength, readersOf } from './policy/setup.js'
import { hasStarted, prepareAdapter } from './roles/adapter.js'
import { makeCritic, saveCritic } from './roles/critic.js'
import { frozenReference, refuseTrainedWeights } from './roles/reference.js'
import { partsOf } from './run/checkpoint.js'
import type { EndEvent, PpoStepEvent, TrainEvent } from './run/events.js'
import { Run, type RunControl } from './run/run.js'
import { sizeOf } from './run/sizes.js'

/** Options of `ppo`; `Row` types the columns of the prompts' rows that reward functions see. */
export type PpoOptions<Row = Record<string, unknown>> = Omit<
  OptionInput<typeof ppoOptions>,
  'reward' | 'data'
> &
  Judged<Row>

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
  const resolved = resolveOptions(ppoOptions, options as unknown as OptionInput<typeof ppoOptions>)
  return new Run((control) => train(resolved, control))
}

async function* train(
  options: Resolved,
  control: RunControl,
): AsyncGenerator<TrainEvent<PpoStepEvent, never, PromptReport>, EndEvent> {
  const { model, batchSize, miniBatches } = options
  checkMiniBatches(batchSize, miniBatches)
  const sources = rewardSources(options.reward, model)
  const template = await templateOf(options.template, model)
  const prompts = await loadPrompts(options.data, {
    ...options,
    tokenizer: model.tokenizer,
    template,
    maxLength: promptLength(readersOf(options, sources), options),
  })
  await using made = new Made()
  const critic = made.model(await makeCritic(options, sources))
  await using prepared = await prepareAdapter(model, options, hasStarted(control))
  const { adapted } = prepared
  for (const { name, reward } of sources)
    if (reward instanceof RewardModel) refuseTrainedWeights(reward, model, name)
  const { reference, owned } = await frozenReference(model, {
    given: options.reference,
    added: options.lora !== undefined,
  })
  if (owned) made.model(reference)
  const learningRate = options.learningRate ?? (adapted ? 3e-5 : 3e-6)
  const optimizers = {
    actor: made.optimizer(model, { ...options, learningRate }),
    critic: made.optimizer(critic, { ...options, learningRate }),
  }
  const { target, horizon = 10_000 } = options.kl ?? {}
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
        ...partsOf(model, optimizers.actor),
        ...partsOf(critic, optimizers.critic, 'critic-'),
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
      valueClip: options.scoreNormalize || (options.scoreClip ?? 6) <= 5 ? undefined : options.valueClip,
      choices: { template: template.name, critic: options.critic && '(model)' },
      parameters: await sizeOf(model),
      learn: ppoLearning(
        {
          model,
          critic,
          reference,
          optimizers,
          criticRatio: (options.criticLearningRate ?? 10 * learningRate) / learningRate,
          withModel: sources.some(({ reward }) => reward instanceof RewardModel),
        },
        options,
      ),
      saveOthers: ({ critic: path }) => saveCritic(critic, path, options.saveDtype),
    },
    control,
  )
}
