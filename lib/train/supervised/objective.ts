import type { EvaluationBase, StepBase } from '../run/events.js'
import type { Sums } from '../run/sums.js'

/** Fields of every batch of a supervised recipe, besides its tokens. */
export interface TrainBatch {
  /** Its part of the normalizer: the weight of its labels, or the number of its pairs. */
  count: number
  /** Tokens, padding not counted. */
  tokens: number
  /** Origins of its rows: `file:line`. */
  rowNames: string[]
}

export interface ObjectiveOptions {
  normalizer: number
  checkpointing: boolean
  /** Seed of LoRA dropout; 0 for none. */
  dropoutSeed: number
  signal?: AbortSignal
}

/** Objective of a supervised recipe: the differences between `sft`, `reward` and `dpo` within an optimizer step. */
export interface Objective<
  Batch extends TrainBatch,
  Step extends StepBase,
  Evaluation extends EvaluationBase,
> {
  /** Computes values that depend on all batches of a step, before its first gradient. */
  prepare?(batches: readonly Batch[], signal?: AbortSignal): Promise<void>
  /** Accumulates the gradients of a batch; returns sums before normalization. */
  backward(batch: Batch, options: ObjectiveOptions): Promise<Sums>
  /** Returns the sums of a batch without gradients. */
  evaluate(batch: Batch, signal?: AbortSignal): Promise<Sums>
  /** Loss of an evaluation from the sums of all its batches; default: `lossSum` / `count`. */
  evaluationLoss?(sums: Sums): number
  /** The recipe's own fields of the step event, from the sums of all batches. */
  stepMetrics(sums: Sums): Omit<Step, keyof StepBase>
  evaluationMetrics(sums: Sums): Omit<Evaluation, keyof EvaluationBase>
}
