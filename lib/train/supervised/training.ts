import type { Loader, Batch as Tokens } from '../../data/index.js'
import type { Template } from '../../data/text/template.js'
import { PosttrainError } from '../../errors.js'
import type { Model } from '../../models/model.js'
import type { TrainingOptions } from '../options/fields.js'
import type { EvaluationBase, StepBase, WarningEvent } from '../run/events.js'
import type { Objective, TrainBatch } from './objective.js'

/** What a recipe that learns from given rows has made ready for the loop. */
export interface SupervisedTraining<
  Batch extends TrainBatch & Tokens,
  Step extends StepBase,
  Evaluation extends EvaluationBase,
> {
  recipe: string
  model: Model
  options: TrainingOptions
  objective: Objective<Batch, Step, Evaluation>
  train: Loader<Batch>
  validation: Loader<Batch> | null
  /** How prompts are put to the model, which is saved with a model that had none; null for plain text. */
  template: Template | null
  /** What the recipe chose beside its options that decides its numbers, for config.json. */
  choices: Record<string, unknown>
  /** Of a reward model: what RewardModel.save() is given. */
  padToken?: string | undefined
  /** LoRA dropout is for recipes that compare with no other model. */
  dropout: boolean
  /** About the data, before the first step. */
  warnings?: readonly Pick<WarningEvent, 'code' | 'message'>[]
  /**
   * Hook before the first weight is read or changed, with the run folder taken. Resolves to the mean log-probability of
   * a few responses by the reference, by which a resume knows it again; null without one.
   */
  begin?(): Promise<number | null>
}

/** Tokens of a sequence at most; ERR_INVALID_ARGUMENT where the model cannot read that many. */
export function sequenceLength(model: Model, maxLength: number | undefined): number {
  const context = model.contextLength ?? Number.POSITIVE_INFINITY
  if (maxLength === undefined) return Math.min(1024, context)
  if (maxLength <= context) return maxLength
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `maxLength ${maxLength} is more than the model can read: its context is ${context} tokens`,
  )
}
