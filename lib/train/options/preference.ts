import type { CausalLM } from '../../models/causal-lm.js'
import type { RewardModel } from '../../models/reward-model.js'
import { count, isModel, text } from '../../options/kinds.js'
import { type Conflict, custom, type OptionSet, option } from '../../options/option.js'
import {
  defaultsText,
  lossesReading,
  PAIR_LOSS_NAMES,
  pairLoss,
  referenceFreeLosses,
} from '../../options/pair-losses.js'
import { loraConflicts, trainingConflicts, trainingFields } from '../../options/training.js'
import { lazily } from '../../options/zod.js'
import { learningRateOption, recipeFields } from './fields.js'
import { renderingFields, responseReasoning } from './rendering.js'

/** Training options that apply to pairs. */
const fields = lazily(() => {
  const { batchTokens: _batchTokens, samples: _samples, ...fields } = trainingFields()
  return { ...fields, batchSize: option(count().optional(), 'Rows per batch (default: 8)') }
})
const conflicts = [
  ...trainingConflicts.filter(({ option: name }) => name !== 'batchTokens'),
  ...loraConflicts.filter(({ option: name }) => name !== 'lora.dropout'),
]

/** Options of `reward`. */
export const rewardOptions = {
  name: 'reward',
  schema: lazily((z) => {
    const { data, validation, alignmentLora: lora, onBadRow, signal } = recipeFields()
    return z.object({
      model: option(
        custom<CausalLM | RewardModel>(
          'CausalLM | RewardModel',
          isModel,
          'must be a CausalLM or a RewardModel',
        ),
        'The model to start from: a language model, or a reward model to train further',
        text(
          'DIR',
          'Model to start from, a folder or org/name on the Hub: a language model, or a reward model to train further',
        ),
      ),
      data,
      validation,
      epochs: option(z.int().min(1).optional(), 'Passes over the data (default: 1)'),
      learningRate: learningRateOption(1e-5, 1e-4),
      lora,
      ...renderingFields(),
      reasoning: responseReasoning(),
      center: option(
        z.number().min(0).default(0),
        'Weight of (chosen + rejected score) squared, which keeps scores near 0; 0.01 is recommended',
      ),
      padToken: option(
        z.string().min(1).optional(),
        'Pad token for tokenizers without a spare special token: a token that no response ends with (default: the pad token, or another special one)',
      ),
      onBadRow,
      ...fields(),
      signal,
    })
  }),
  conflicts: [
    ...conflicts,
    {
      option: 'padToken',
      when: (given: (path: string) => boolean) => given('lora') || !given('output'),
      because: 'has no effect without output, or with lora, where the base defines the pad token',
    },
  ],
} satisfies OptionSet

const LOSSES = [...PAIR_LOSS_NAMES, 'kto'] as const
/** A loss of `dpo`: a pair loss, or `kto` on unpaired preference data. */
export type DpoLoss = (typeof LOSSES)[number]

const texts: Record<string, string> = {
  ...Object.fromEntries(PAIR_LOSS_NAMES.map((name) => [name, pairLoss(name).text])),
  kto: 'KTO: unpaired responses with a label, or pairs taken apart',
}

const listed = (losses: readonly string[]) =>
  `loss${losses.length > 1 ? 'es' : ''} ${losses.join(', ').replace(/, ([^,]+)$/, ' and $1')}`
const without = (name: string, losses: readonly string[], because: string): Conflict => ({
  option: name,
  when: (_, options) => losses.includes(options.loss as string),
  because: `has no effect with ${listed(losses)}, ${because}`,
})
const only = (name: string, losses: readonly string[]): Conflict => ({
  option: name,
  when: (_, options) => !losses.includes(options.loss as string),
  because: `has an effect only with ${listed(losses)}`,
})

/** Options of `dpo`. */
export const dpoOptions = {
  name: 'dpo',
  schema: lazily((z) => {
    const { model, data, validation, alignmentLora: lora, onBadRow, signal } = recipeFields()
    return z.object({
      model,
      data,
      validation,
      reference: option(
        custom<CausalLM>('CausalLM', isModel, 'must be a model').optional(),
        'Frozen reference model (default: the model as it is at the start)',
        false,
      ),
      loss: option(
        z.enum(LOSSES).default('sigmoid'),
        'Preference loss; kto takes rows with a label, and pairs as two of them',
        { placeholder: 'LOSS', read: (text) => text, choices: texts },
      ),
      beta: option(
        z.number().gt(0).optional(),
        `Strength of the KL constraint to the reference (default: ${defaultsText('beta')})`,
      ),
      labelSmoothing: option(
        z.number().min(0).lt(0.5).optional(),
        `Assumed share of pairs in the wrong order, for ${listed(lossesReading('labelSmoothing'))} (default: ${defaultsText('labelSmoothing')})`,
      ),
      gamma: option(
        z.number().optional(),
        `Target margin of ${listed(lossesReading('gamma'))} (default: ${defaultsText('gamma')})`,
      ),
      lambda: option(
        z.number().min(0).optional(),
        `Weight of the penalty of ${listed(lossesReading('lambda'))} on chosen responses that are less likely than under the reference (default: ${defaultsText('lambda')})`,
      ),
      desirableWeight: option(z.number().gt(0).optional(), 'kto: weight of desirable responses (default: 1)'),
      undesirableWeight: option(
        z.number().gt(0).optional(),
        'kto: weight of undesirable responses (default: 1)',
      ),
      sftCoef: option(
        z.number().min(0).optional(),
        `Weight of the cross-entropy of the chosen responses, added to the loss (default: ${defaultsText('sftCoef')})`,
      ),
      epochs: option(z.int().min(1).optional(), 'Passes over the data (default: 1)'),
      learningRate: learningRateOption(1e-6, 5e-6),
      lora,
      ...renderingFields(),
      reasoning: responseReasoning(),
      onBadRow,
      ...fields(),
      signal,
    })
  }),
  conflicts: [
    ...conflicts,
    without('reference', referenceFreeLosses, 'which use none'),
    only('labelSmoothing', lossesReading('labelSmoothing')),
    only('gamma', lossesReading('gamma')),
    only('lambda', lossesReading('lambda')),
    only('desirableWeight', ['kto']),
    only('undesirableWeight', ['kto']),
    without('sftCoef', ['kto'], 'whose rows have no chosen response'),
  ],
} satisfies OptionSet
