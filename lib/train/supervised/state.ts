import { PosttrainError } from '../../errors.js'
import type { StepBase } from '../run/events.js'
import { SupervisedWatch, type WatchState } from '../run/warnings.js'
import { type EvaluationState, NO_EVALUATION } from './early-stopping.js'
import { mean } from './objective.js'
import type { Cursor, StepData, StepOutcome } from './step.js'

/** All that a run knows between two steps, besides weights and moments; saved in each checkpoint. */
export interface TrainingState {
  step: number
  /** Steps after which evaluation, samples and checkpoint were done too. */
  settled: number
  cursor: Cursor
  position: number
  /** Sums over the epoch under way. */
  epochLoss: number
  epochWeight: number
  lastLoss: number
  skippedInARow: number
  evaluations: EvaluationState
  watch: WatchState
  /** Mean log-probability of some answers by the reference, where there is one. */
  reference: number | null
  /** The schedule of the learning rate goes by it. */
  totalSteps: number
  /** What the bits depend on besides all this: the same numbers are promised where these are the same. */
  environment: Environment | null
}

export interface Environment {
  libtorch: string
  threads: number
  device: string
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

/** What a resumed run is not the same in as the one that was interrupted; its owner is warned of each. */
export function differences(
  before: Pick<TrainingState, 'totalSteps' | 'environment'>,
  now: { totalSteps: number; environment: Environment },
): string[] {
  const environment = otherEnvironment(before.environment, now.environment)
  const length =
    before.totalSteps === now.totalSteps
      ? null
      : `The run had ${before.totalSteps} steps in all and has ${now.totalSteps} now: from here on its learning rate follows the new length`
  return [environment, length].filter((text) => text !== null)
}

function otherEnvironment(before: Environment | null, now: Environment): string | null {
  const names = (['libtorch', 'threads', 'device'] as const).filter((name) => before?.[name] !== now[name])
  if (names.length === 0) return null
  const changes = names.map((name) => `${name} ${before?.[name]} before, ${now[name]} now`).join('; ')
  return `The run goes on in another environment (${changes}): its numbers may differ in their last bits`
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

/** What every recipe tells of a step. */
export function stepBase(state: TrainingState, data: StepData, outcome: StepOutcome): StepBase {
  return {
    type: 'step',
    step: state.step,
    epoch: state.position,
    loss: mean(outcome.sums.lossSum, outcome.sums.count),
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
    `Training stopped at step ${state.step}: the ${what} was not finite in ${state.skippedInARow} steps in a row (last with rows ${rowsOf(data).join(', ')}, learning rate ${outcome.learningRate}); lower the learning rate, or look at the weights and at these rows`,
  )
}
