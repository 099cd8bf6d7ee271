import type { Loader } from '../../data/index.js'
import type { EvaluationBase, StepBase } from '../run/events.js'
import { addSums, ratio, type Sums } from '../run/sums.js'
import type { Objective, TrainBatch } from './objective.js'

/** Evaluates the objective on every batch of the loader, without gradients; means are over all batches together. */
export async function evaluate<
  Batch extends TrainBatch,
  Step extends StepBase,
  Evaluation extends EvaluationBase,
>(
  objective: Objective<Batch, Step, Evaluation>,
  loader: Loader<Batch>,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<{ loss: number } & Omit<Evaluation, keyof EvaluationBase>> {
  let sums: Sums | null = null
  for await (const batch of loader.epoch(0)) {
    await objective.prepare?.([batch], options.signal)
    sums = addSums(sums, await objective.evaluate(batch, options.signal))
  }
  const total = sums ?? { lossSum: 0, count: 0 }
  const loss = objective.evaluationLoss?.(total) ?? ratio(total.lossSum, total.count)
  return { loss, ...objective.evaluationMetrics(total) }
}
