import type { EvaluationBase, StepBase } from '../run/events.js'
import type { Sums } from '../run/sums.js'

/** What every batch of a recipe that learns from given rows has beside its tokens. */
export interface TrainBatch {
  /** What its loss divides by: the weight of its labels, or the number of its pairs. */
  count: number
  /** Tokens, padding not counted. */
  tokens: number
  /** Where its rows came from: `file:line`. */
  rowNames: string[]
}

export interface ObjectiveOptions {
  normalizer: number
  checkpointing: boolean
  /** Other than 0: LoRA dropout is on, drawn from it. */
  dropoutSeed: number
  signal?: AbortSignal
}

/** What a recipe trains for: everything in which `sft`, `reward` and `dpo` differ between two optimizer steps. */
export interface Objective<
  Batch extends TrainBatch,
  Step extends StepBase,
  Evaluation extends EvaluationBase,
> {
  /** Before the first gradient of a step: what depends on all its batches. */
  prepare?(batches: readonly Batch[], signal?: AbortSignal): Promise<void>
  /** Adds the gradients of a batch; sums come back undivided. */
  backward(batch: Batch, options: ObjectiveOptions): Promise<Sums>
  /** The same sums without gradients. */
  evaluate(batch: Batch, signal?: AbortSignal): Promise<Sums>
  /** The loss of an evaluation where that is not the mean of `lossSum` over `count`, from the sums of all its batches. */
  evaluationLoss?(sums: Sums): number
  /** What a step tells beside what all recipes tell, from the sums of all its batches. */
  stepMetrics(sums: Sums): Omit<Step, keyof StepBase>
  evaluationMetrics(sums: Sums): Omit<Evaluation, keyof EvaluationBase>
}
