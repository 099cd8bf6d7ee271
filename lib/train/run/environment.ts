import type { Model } from '../../models/model.js'

/** Environment that the exact bits of a run depend on, besides its options, data and models. */
export interface Environment {
  libtorch: string
  threads: number
  device: string
}

export async function environmentOf(model: Model): Promise<Environment> {
  const { libtorch, threads } = await model.role.core.info()
  return { libtorch, threads, device: model.device }
}

/** Whether a computation gives the same bits in both environments. */
export function hasSameBits(before: Environment | null, now: Environment): boolean {
  return now.device === 'cpu' && JSON.stringify(before) === JSON.stringify(now)
}

/** Differences between a resumed run and the interrupted one, one sentence each. */
export function differences(
  before: { totalSteps: number; environment: Environment | null },
  now: { totalSteps: number; environment: Environment },
): string[] {
  const environment = otherEnvironment(before.environment, now.environment)
  const length =
    before.totalSteps === now.totalSteps
      ? null
      : `The run had ${before.totalSteps} steps in total and has ${now.totalSteps} now: from here on the learning rate schedule follows the new length`
  return [environment, length].filter((text) => text !== null)
}

function otherEnvironment(before: Environment | null, now: Environment): string | null {
  const names = (['libtorch', 'threads', 'device'] as const).filter((name) => before?.[name] !== now[name])
  if (names.length === 0) return null
  const changes = names.map((name) => `${name} ${before?.[name]} before, ${now[name]} now`).join('; ')
  return `The run resumes in another environment (${changes}): its numbers may differ in their last bits`
}
