import { lazily } from '../../options/zod.js'
import type { SampleEvent, WarningEvent } from '../run/events.js'
import { faultsOf, type SessionState, sessionFields } from '../run/state.js'
import { PolicyWatch, type WatchState, watchState } from '../run/warnings.js'

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

const schema = lazily((z) => {
  const count = z.number().int().min(0)
  return z.strictObject({
    ...sessionFields(),
    pending: z.array(z.looseObject({ type: z.enum(['warning', 'sample']), step: count })),
    taken: count,
    klCoef: z.number(),
    scores: z.strictObject({ count, mean: z.number(), squares: z.number().min(0) }),
    lastLoss: z.number(),
    skippedInARow: count,
    overLimit: z.boolean(),
    watch: watchState(),
  })
})

/** What is wrong with the state of a checkpoint; null if nothing is. `batchSize`: prompts of an iteration. */
export function policyFault(value: unknown, step: number, batchSize: number): string | null {
  return faultsOf<PolicyState>(schema(), value, step, ({ taken, skippedInARow, pending }) => {
    if (taken !== step * batchSize) return `taken: not the prompts of ${step} iterations`
    if (skippedInARow > step) return 'skippedInARow: above step'
    if (pending.some((event) => event.step !== step)) return 'pending: events of another step'
    return null
  })
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
