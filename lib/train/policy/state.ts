import type { SampleEvent, WarningEvent } from '../run/events.js'
import type { SessionState } from '../run/session.js'
import { PolicyWatch, type WatchState } from '../run/warnings.js'

/** Scores so far, for scoreNormalize: count, mean, and sum of squared distances from it (Welford 1962). */
export interface ScoreHistory {
  count: number
  mean: number
  squares: number
}

/** All that a run knows between two iterations, besides weights and moments; saved in each checkpoint. */
export interface PolicyState extends SessionState {
  /** Events of the last iteration that are still to be told. */
  pending: (WarningEvent | SampleEvent)[]
  /** Prompts taken so far. */
  taken: number
  klCoef: number
  scores: ScoreHistory
  lastLoss: number
  skippedInARow: number
  /** The KL was above its limit: the run is over. */
  overLimit: boolean
  watch: WatchState
}

/** The state before the first iteration. */
export function beginning(of: { klCoef: number; totalSteps: number }): PolicyState {
  return {
    step: 0,
    settled: 0,
    pending: [],
    taken: 0,
    klCoef: of.klCoef,
    scores: { count: 0, mean: 0, squares: 0 },
    lastLoss: 0,
    skippedInARow: 0,
    overLimit: false,
    reference: null,
    judges: [],
    totalSteps: of.totalSteps,
    environment: null,
    watch: PolicyWatch.start,
  }
}
