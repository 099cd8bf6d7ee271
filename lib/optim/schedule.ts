import { is, needArgument, needOptions } from '../arguments.js'
import { PosttrainError } from '../errors.js'

export interface Schedule {
  /** Peak learning rate. */
  learningRate: number
  schedule: 'constant' | 'linear' | 'cosine' | 'warmupStableDecay'
  totalSteps: number
  /** Steps over which the rate rises from 0; or a fraction of all steps. */
  warmupSteps?: number | undefined
  warmupRatio?: number | undefined
  /** Final learning rate, as a fraction of the peak; default 0. */
  minLearningRateRatio?: number | undefined
  /** warmupStableDecay: fraction of all steps over which it falls; default 0.2. */
  decayRatio?: number | undefined
}

/**
 * Learning rate of step `step` (from 0): linear warm-up, then constant, linear or cosine decay (Loshchilov & Hutter
 * 2017, arXiv 1608.03983) to the floor, or a plateau that ends in a linear decay.
 */
export function learningRateAt(step: number, options: Schedule): number {
  needArgument('learningRateAt', 'step', step, is.count)
  needOptions('learningRateAt', options, {
    warmupSteps: is.count,
    warmupRatio: is.number,
    minLearningRateRatio: is.number,
    decayRatio: is.number,
  })
  needArgument('learningRateAt', 'option learningRate', options.learningRate, is.number)
  needArgument('learningRateAt', 'option totalSteps', options.totalSteps, is.count)
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
      throw new PosttrainError('ERR_INVALID_ARGUMENT', `unknown schedule ${String(options.schedule)}`)
  }
}
