import type { Loader, Batch as Tokens } from '../../data/index.js'
import type { Template } from '../../data/text/template.js'
import { PosttrainError } from '../../errors.js'
import type { Model } from '../../models/model.js'
import type { TrainingOptions } from '../options/fields.js'
import type { EvaluationBase, StepBase, WarningEvent } from '../run/events.js'
import type { RowForm } from '../run/row-form.js'
import type { Objective, TrainBatch } from './objective.js'

/** Everything that the loop needs of a supervised recipe. */
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
  /** Template of the prompts, saved with a model that has none; null for plain text. */
  template: Template | null
  /** Form of the prompts of `samples`; absent in recipes without them. */
  sampling?: RowForm
  /** Values that the recipe resolved and that affect its numbers, for config.json. */
  choices: Record<string, unknown>
  /** Pad token for RewardModel.save(). */
  padToken?: string | undefined
  /** Whether LoRA dropout applies: only in recipes without a reference or pairs. */
  dropout: boolean
  /** Warnings about the data, issued before the first step. */
  warnings?: readonly Pick<WarningEvent, 'code' | 'message'>[]
  /**
   * Hook after the run folder is locked and before any weight is read or changed. Resolves to the fingerprint of the
   * reference, the mean log-probability of a few responses; null without one.
   */
  begin?(): Promise<number | null>
}

/** Maximum tokens of a sequence. Throws ERR_INVALID_ARGUMENT above the context length of the model. */
export function sequenceLength(model: Model, maxLength: number | undefined): number {
  const context = model.contextLength ?? Number.POSITIVE_INFINITY
  if (maxLength === undefined) return Math.min(1024, context)
  if (maxLength <= context) return maxLength
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `maxLength ${maxLength} exceeds the context length of the model, ${context} tokens`,
  )
}
