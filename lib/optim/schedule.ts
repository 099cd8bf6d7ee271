import { PosttrainError } from '../errors.js'

export interface Schedule {
  /** The peak. */
  learningRate: number
  schedule: 'constant' | 'linear' | 'cosine' | 'warmupStableDecay'
  totalSteps: number
  /** Steps in which the rate rises from 0; or the same as a fraction of all steps. */
  warmupSteps?: number | undefined
  warmupRatio?: number | undefined
  /** Where it ends, as a fraction of the peak; default 0. */
  minLearningRateRatio?: number | undefined
  /** warmupStableDecay: the fraction of all steps in which it falls; default 0.2. */
  decayRatio?: number | undefined
}

/**
 * The learning rate of step `step` (from 0): linear warm-up, then constant, a line or half a cosine (Loshchilov & Hutter
 * 2017, arXiv 1608.03983) down to the floor, or a plateau with a line at its end.
 */
export function learningRateAt(step: number, options: Schedule): number {
  const { learningRate, totalSteps, minLearningRateRatio: floor = 0 } = options
  const warmup = options.warmupSteps ?? Math.ceil((options.warmupRatio ?? 0) * totalSteps)
  if (step < warmup) return (learningRate * step) / Math.max(1, warmup)
  const between = (progress: number) => Math.min(1, Math.max(0, progress))
  const progress = between((step - warmup) / Math.max(1, totalSteps - warmup))
  const down = (fraction: number) => learningRate * (floor + (1 - floor) * fraction)
  switch (options.schedule) {
    case 'constant':
      return learningRate
    case 'linear':
      return down(1 - progress)
    case 'cosine':
      return down(0.5 * (1 + Math.cos(Math.PI * progress)))
    case 'warmupStableDecay': {
      const decay = Math.max(1, Math.round((options.decayRatio ?? 0.2) * totalSteps))
      return down(1 - between((step - (totalSteps - decay)) / decay))
    }
    default:
      options.schedule satisfies never
      throw new PosttrainError('ERR_INVALID_ARGUMENT', `there is no schedule ${String(options.schedule)}`)
  }
}
