import type { LoaderBatch } from '../data/loader.js'
import type { CausalLM } from '../models/causal-lm.js'
import type { AdamW } from '../optim/adamw.js'

/** The batches of one optimizer step, made ready before it. */
export interface StepData {
  batches: LoaderBatch[]
  /** Sum of the label weights of all batches: what the loss of the step divides by. */
  normalizer: number
  tokens: number
  /** Where the data goes on after this step. */
  next: Cursor
  /** The last step of its epoch. */
  endsEpoch: boolean
  /** Position in the data after this step, in epochs. */
  position: number
}

/** A place in the data: batch `batch` of epoch `epoch`, both from 0. */
export interface Cursor {
  epoch: number
  batch: number
}

/** What one optimizer step did; sums over the labels of all its batches. */
export interface StepOutcome {
  lossSum: number
  weight: number
  correct: number
  entropySum: number
  labels: number
  gradNorm: number
  learningRate: number
  seconds: number
  skipped: 'nonFiniteLoss' | 'nonFiniteGradient' | 'noLabels' | null
}

/**
 * One optimizer step: gradients of all batches, clipped, then AdamW. The loss is the mean over the labels of
 * the whole step, whatever their batch. A loss or gradient norm that is not finite leaves weights, moments
 * and step count as they were; so does a step without labels.
 *
 * An abort between or inside the batches rejects with an AbortError and changes nothing either.
 */
export async function supervisedStep(
  model: CausalLM,
  optimizer: AdamW,
  data: StepData,
  options: {
    learningRate: number
    maxGradNorm: number
    activationCheckpointing: boolean
    signal?: AbortSignal | undefined
  },
): Promise<StepOutcome> {
  const started = performance.now()
  const outcome: StepOutcome = {
    lossSum: 0,
    weight: 0,
    correct: 0,
    entropySum: 0,
    labels: 0,
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
  await optimizer.zeroGrad()
  for (const batch of data.batches) {
    const sums = await model.backward(
      batch,
      { kind: 'crossEntropy' },
      {
        normalizer: data.normalizer,
        checkpointing: options.activationCheckpointing,
        ...(options.signal && { signal: options.signal }),
      },
    )
    outcome.lossSum += sums.lossSum
    outcome.weight += sums.count
    outcome.correct += sums.correct
    outcome.entropySum += sums.entropySum
    outcome.labels += sums.labels
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
