import { type PreferenceBatch, preferenceLoader } from '../data/loaders/preferences.js'
import { loadPreferences } from '../data/preferences.js'
import { CausalLM } from '../models/causal-lm.js'
import { RewardModel } from '../models/reward-model.js'
import type { ResolvedOptions } from '../options/option.js'
import { resolveOptions } from '../options/validate.js'
import type { RewardOptions } from './options/options.generated.js'
import { rewardOptions } from './options/preference.js'
import { noEffectOnAdapter, prepareAdapter } from './roles/adapter.js'
import type {
  EndEvent,
  RewardEvaluationEvent,
  RewardMetrics,
  RewardStepEvent,
  TrainEvent,
} from './run/events.js'
import { rowForm } from './run/row-form.js'
import { hasStarted, Run, type RunControl } from './run/run.js'
import { ratio } from './run/sums.js'
import { superviseTraining } from './supervised/loop.js'
import type { Objective } from './supervised/objective.js'
import { sequenceLength } from './supervised/training.js'

/**
 * Reward model training on preference data: rows of `prompt, chosen, rejected` (with an optional `margin`), or `prompt,
 * responses` with the best first; conversations, or texts without a prompt, that share no start are compared too, each scored
 * whole. The score is read at the last token of prompt and response. The loss is the mean over
 * pairs of -log sigmoid(chosen - rejected - margin) (Bradley & Terry 1952), with equal weight for every prompt.
 *
 * A CausalLM gets a new head. The reward model shares its weights, which are trained too, unless `lora` is given or an
 * adapter is in use, which is then trained further. The result is saved as a Hugging Face sequence classification model
 * with one label.
 *
 * ```ts
 * const run = reward({ model: await CausalLM.load('./sft'), data: 'preferences.jsonl', output: 'runs/reward' })
 * for await (const event of run) if (event.type === 'step') console.log(event.step, event.accuracy)
 * ```
 *
 * @throws PosttrainError as `sft` does.
 */
export function reward(options: RewardOptions): Run<RewardStepEvent, RewardEvaluationEvent> {
  const resolved = resolveOptions(rewardOptions, options)
  return new Run((control) => train(resolved, control))
}

async function* train(
  options: ResolvedOptions<typeof rewardOptions>,
  control: RunControl,
): AsyncGenerator<TrainEvent<RewardStepEvent, RewardEvaluationEvent>, EndEvent> {
  const { model: given } = options
  if (!(given instanceof CausalLM)) return yield* trainOn(given, options, control)
  await using model = await RewardModel.fromCausalLM(given, { seed: options.seed, adapter: given.adapter })
  // The head is disposed with this model; an adapter trained with it would be useless on the CausalLM.
  return yield* trainOn(model, options, control, () => false)
}

async function* trainOn(
  model: RewardModel,
  options: ResolvedOptions<typeof rewardOptions>,
  control: RunControl,
  kept = hasStarted(control),
): AsyncGenerator<TrainEvent<RewardStepEvent, RewardEvaluationEvent>, EndEvent> {
  const { seed, shuffle } = options
  const maxLength = sequenceLength(model, options.maxLength)
  const { form, choices, adopted } = await rowForm(options, model)
  const rows = await loadPreferences(options.data, {
    ...options,
    maxLength,
    tokenizer: model.tokenizer,
    apart: true,
    ...form,
  })
  const batchSize = options.batchSize ?? 8
  try {
    await using prepared = await prepareAdapter(model, options, kept)
    const { adapted } = prepared
    if (adapted && options.padToken !== undefined) throw noEffectOnAdapter('reward', 'padToken', model)
    const template = adopted(rows.train)
    if (template !== null) model.adoptTemplate(template)
    // Fail before hours of training, not after.
    if (options.output !== undefined && !adapted) model.padFor(options.padToken)
    return yield* superviseTraining(
      {
        recipe: 'reward',
        model,
        options: {
          ...options,
          maxLength,
          batchTokens: undefined,
          samples: undefined,
          learningRate: options.learningRate ?? (adapted ? 1e-4 : 1e-5),
          epochs: options.epochs ?? 1,
        },
        objective: objective(model, options.center),
        dropout: false,
        padToken: options.padToken,
        train: preferenceLoader(rows.train, { batchSize, shuffle, seed }),
        validation: rows.validation && preferenceLoader(rows.validation, { batchSize, shuffle: false, seed }),
        template,
        choices: { maxLength, ...choices, center: options.center },
      },
      control,
    )
  } finally {
    await rows.train.store.close()
    await rows.validation?.store.close()
  }
}

function objective(
  model: RewardModel,
  center: number,
): Objective<PreferenceBatch, RewardStepEvent, RewardEvaluationEvent> {
  const termOf = ({ pairs, margins, pairWeights }: PreferenceBatch) => ({
    kind: 'pairwiseReward' as const,
    center,
    pairs,
    margins,
    weights: pairWeights,
  })
  const metrics = (sums: Record<string, number>): RewardMetrics => ({
    accuracy: ratio(sums.correct, sums.count),
    margin: ratio(sums.margin, sums.count),
    meanReward: ratio(sums.rewards, sums.documents),
    minReward: sums.minReward ?? 0,
    maxReward: sums.maxReward ?? 0,
  })
  return {
    async backward(batch, options) {
      return await model.backward(batch, termOf(batch), options)
    },
    async evaluate(batch, signal) {
      return await model.evaluate(batch, termOf(batch), { signal })
    },
    stepMetrics: metrics,
    evaluationMetrics: metrics,
  }
}
