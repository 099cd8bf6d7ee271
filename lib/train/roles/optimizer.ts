import type { Model } from '../../models/model.js'
import { AdamW } from '../../optim/adamw.js'

/** The optimizer of a recipe: AdamW with weight decay of matrices only. */
export function recipeOptimizer(
  model: Model,
  options: {
    optimizer: 'adamw' | 'adamw8bit'
    learningRate: number
    beta1: number
    beta2: number
    epsilon: number
    weightDecay: number
  },
): AdamW {
  const { learningRate, beta1, beta2, epsilon: eps, weightDecay } = options
  const moments = options.optimizer === 'adamw8bit' ? '8bit' : 'float32'
  return new AdamW(model, { learningRate, beta1, beta2, eps, weightDecay, decay: 'matrices', moments })
}
