import type { SampleEvent, WarningEvent } from '../run/events.js'
import type { SessionState } from '../run/session.js'
import { PolicyWatch, type WatchState } from '../run/warnings.js'

/** Running statistics of the scores for scoreNormalize: count, mean, sum of squared deviations (Welford 1962). */
export interface ScoreHistory {
  count: number
  mean: number
  squares: number
}

/** State of a policy run between two iterations, besides weights and optimizer state; part of each checkpoint. */
export interface PolicyState extends SessionState {
  /** Events of the last iteration that are not emitted yet. */
  pending: (WarningEvent | SampleEvent)[]
  /** Number of prompts used so far. */
  taken: number
  klCoef: number
  scores: ScoreHistory
  lastLoss: number
  skippedInARow: number
  /** Whether the KL exceeded its limit, which ends the run. */
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
