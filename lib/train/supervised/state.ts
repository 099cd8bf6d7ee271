import { PosttrainError } from '../../errors.js'
import { lazily } from '../../options/zod.js'
import type { StepBase } from '../run/events.js'
import { faultsOf, type SessionState, sessionFields } from '../run/state.js'
import { ratio } from '../run/sums.js'
import { SupervisedWatch, type WatchState, watchState } from '../run/warnings.js'
import { type EvaluationState, NO_EVALUATION } from './early-stopping.js'
import type { Cursor, StepData, StepOutcome } from './step.js'

/** State of a supervised run between two steps, besides weights and optimizer state; part of each checkpoint. */
export interface TrainingState extends SessionState {
  cursor: Cursor
  position: number
  /** Sums over the current epoch. */
  epochLoss: number
  epochWeight: number
  lastLoss: number
  skippedInARow: number
  evaluations: EvaluationState
  watch: WatchState
}

const schema = lazily((z) => {
  const count = z.number().int().min(0)
  return z.strictObject({
    ...sessionFields(),
    cursor: z.strictObject({ epoch: count, batch: count }),
    position: z.number().min(0),
    epochLoss: z.number(),
    epochWeight: z.number().min(0),
    lastLoss: z.number(),
    skippedInARow: count,
    evaluations: z.strictObject({
      bestLoss: z.number().nullable(),
      bestStep: count.nullable(),
      withoutGain: count,
    }),
    watch: watchState(),
  })
})

/** What is wrong with the state of a checkpoint; null if nothing is. `isCursor`: whether the step has that cursor. */
export function trainingFault(
  value: unknown,
  step: number,
  isCursor: (step: number, cursor: Cursor) => boolean,
): string | null {
  return faultsOf<TrainingState>(schema(), value, step, ({ cursor, skippedInARow, evaluations }) => {
    if (!isCursor(step, cursor)) return `cursor: not the position after step ${step}`
    if (skippedInARow > step) return 'skippedInARow: above step'
    const { bestLoss, bestStep } = evaluations
    if ((bestLoss === null) !== (bestStep === null) || (bestStep ?? 0) > step)
      return 'evaluations: not of this run'
    return null
  })
}

export const BEGINNING: TrainingState = {
  step: 0,
  settled: 0,
  cursor: { epoch: 0, batch: 0 },
  position: 0,
  epochLoss: 0,
  epochWeight: 0,
  lastLoss: 0,
  skippedInARow: 0,
  evaluations: NO_EVALUATION,
  watch: SupervisedWatch.start,
  reference: null,
  totalSteps: 0,
  environment: null,
}

export function afterStep(state: TrainingState, data: StepData, outcome: StepOutcome): TrainingState {
  const applied = outcome.skipped === null
  const failed = outcome.skipped === 'nonFiniteLoss' || outcome.skipped === 'nonFiniteGradient'
  return {
    ...state,
    step: state.step + 1,
    cursor: data.next,
    position: data.position,
    epochLoss: state.epochLoss + (applied ? outcome.sums.lossSum : 0),
    epochWeight: state.epochWeight + (applied ? outcome.sums.count : 0),
    lastLoss: applied ? outcome.sums.lossSum / outcome.sums.count : state.lastLoss,
    skippedInARow: failed ? state.skippedInARow + 1 : applied ? 0 : state.skippedInARow,
  }
}

/** The fields of a step event that all recipes share. */
export function stepBase(state: TrainingState, data: StepData, outcome: StepOutcome): StepBase {
  return {
    type: 'step',
    step: state.step,
    epoch: state.position,
    loss: ratio(outcome.sums.lossSum, outcome.sums.count),
    gradNorm: outcome.gradNorm,
    learningRate: outcome.learningRate,
    tokens: data.tokens,
    tokensPerSecond: outcome.seconds > 0 ? data.tokens / outcome.seconds : 0,
    ...(outcome.skipped && { skipped: { reason: outcome.skipped, rows: rowsOf(data) } }),
  }
}

export function rowsOf(data: StepData): string[] {
  return data.batches.flatMap(({ rowNames }) => rowNames)
}

export function notFinite(state: TrainingState, data: StepData, outcome: StepOutcome): PosttrainError {
  const what = outcome.skipped === 'nonFiniteLoss' ? 'loss' : 'gradient'
  return new PosttrainError(
    'ERR_NON_FINITE',
    `Training stopped at step ${state.step}: the ${what} was not finite in ${state.skippedInARow} steps in a row (last with rows ${rowsOf(data).join(', ')}, learning rate ${outcome.learningRate}); lower the learning rate, or check the weights and these rows`,
  )
}
