import type { Model } from '../../models/model.js'
import { AdamW } from '../../optim/adamw.js'

/** Precision of the moments of each optimizer. */
export const MOMENTS = { adamw: 'float32', adamw16bit: 'bfloat16', adamw8bit: '8bit' } as const

/** The optimizer of a recipe: AdamW with weight decay of matrices only. */
export function recipeOptimizer(
  model: Model,
  options: {
    optimizer: keyof typeof MOMENTS
    learningRate: number
    beta1: number
    beta2: number
    epsilon: number
    weightDecay: number
  },
): AdamW {
  const { learningRate, beta1, beta2, epsilon: eps, weightDecay } = options
  const moments = MOMENTS[options.optimizer]
  return new AdamW(model, { learningRate, beta1, beta2, eps, weightDecay, decay: 'matrices', moments })
}
