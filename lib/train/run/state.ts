import type * as z from 'zod'
import { lazily } from '../../options/zod.js'
import type { Fingerprint } from '../roles/fingerprint.js'
import type { Environment } from './environment.js'

/** State of any run between two steps, besides weights and optimizer state; part of each checkpoint. */
export interface SessionState extends Fingerprint {
  /** Optimizer steps, or iterations, done. */
  step: number
  /** Steps whose events have all been emitted. */
  settled: number
  /** Steps of the whole run, which the learning rate schedule depends on. */
  totalSteps: number
  environment: Environment | null
}

/** Schema of the fields of SessionState in a checkpoint. */
export const sessionFields = lazily((z) => {
  const count = z.number().int().min(0)
  return {
    step: count,
    settled: count,
    totalSteps: count,
    environment: z.strictObject({ libtorch: z.string(), threads: count, device: z.string() }).nullable(),
    reference: z.number().nullable(),
    judges: z.array(z.number()).optional(),
  }
})

/**
 * What is wrong with the state of the checkpoint of a step, as `path: fault`; null if nothing is. `more` checks what the
 * recipe knows of its own fields.
 */
export function faultsOf<State extends SessionState>(
  schema: z.ZodType,
  value: unknown,
  step: number,
  more: (state: State) => string | null,
): string | null {
  const { success, error, data } = schema.safeParse(value)
  if (!success) {
    const issue = error.issues[0]
    return `${issue?.path.join('.')}: ${issue?.message}`
  }
  const state = data as State
  if (state.step !== step) return `step: ${state.step} in the checkpoint of step ${step}`
  if (state.settled > step || state.settled < step - 1) return `settled: ${state.settled} at step ${step}`
  return more(state)
}
