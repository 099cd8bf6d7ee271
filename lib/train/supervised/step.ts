import type { AdamW } from '../../optim/adamw.js'
import type { EvaluationBase, StepBase } from '../run/events.js'
import { addSums, type Sums } from '../run/sums.js'
import type { Objective, TrainBatch } from './objective.js'

/** The batches of one optimizer step. */
export interface StepData<Batch extends TrainBatch = TrainBatch> {
  batches: Batch[]
  /** Sum of the counts of all batches, by which the loss of the step is divided. */
  normalizer: number
  tokens: number
  /** Position of the next step in the data. */
  next: Cursor
  /** Whether it is the last step of its epoch. */
  endsEpoch: boolean
  /** Position in the data after this step, in epochs. */
  position: number
}

/** A position in the data: batch `batch` of epoch `epoch`, both from 0. */
export interface Cursor {
  epoch: number
  batch: number
}

/** Result of one optimizer step. */
export interface StepOutcome {
  /** Sums over all its batches, before normalization. */
  sums: Sums
  gradNorm: number
  learningRate: number
  seconds: number
  skipped: 'nonFiniteLoss' | 'nonFiniteGradient' | 'noLabels' | null
}

/**
 * Performs one optimizer step: gradients of all batches, clipping, AdamW. The loss is a mean over all labels or pairs of
 * the step, however they are batched. A loss or gradient norm that is not finite leaves weights, optimizer state and step
 * count unchanged, as does a step without labels.
 *
 * An abort between or inside the batches rejects with an AbortError and changes nothing.
 */
export async function supervisedStep<
  Batch extends TrainBatch,
  Step extends StepBase,
  Evaluation extends EvaluationBase,
>(
  objective: Objective<Batch, Step, Evaluation>,
  optimizer: AdamW,
  data: StepData<Batch>,
  options: {
    learningRate: number
    maxGradNorm: number
    activationCheckpointing: boolean
    /** Seed of LoRA dropout in batch `i` of the step; 0 for none. */
    dropoutSeed?: (i: number) => number
    signal?: AbortSignal | undefined
  },
): Promise<StepOutcome> {
  const started = performance.now()
  const outcome: StepOutcome = {
    sums: { lossSum: 0, count: 0 },
    gradNorm: 0,
    learningRate: options.learningRate,
    seconds: 0,
    skipped: null,
  }
  const end = (skipped: StepOutcome['skipped']): StepOutcome => {
    outcome.skipped = skipped
    outcome.seconds = (performance.now() - started) / 1000
    return outcome
  }
  if (data.normalizer === 0) return end('noLabels')
  await objective.prepare?.(data.batches, options.signal)
  await optimizer.zeroGrad()
  let total: Sums | null = null
  for (const [i, batch] of data.batches.entries()) {
    const sums = await objective.backward(batch, {
      normalizer: data.normalizer,
      checkpointing: options.activationCheckpointing,
      dropoutSeed: options.dropoutSeed?.(i) ?? 0,
      ...(options.signal && { signal: options.signal }),
    })
    total = addSums(total, sums)
    outcome.sums = total
    if (!Number.isFinite(sums.lossSum)) {
      await optimizer.zeroGrad()
      outcome.gradNorm = Number.NaN
      return end('nonFiniteLoss')
    }
  }
  const { gradNorm, applied } = await optimizer.step({
    learningRate: options.learningRate,
    maxGradNorm: options.maxGradNorm,
  })
  outcome.gradNorm = gradNorm
  return end(applied ? null : 'nonFiniteGradient')
}
