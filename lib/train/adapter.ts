import type { TrainableModel } from '../models/causal-lm.js'
import type { LoraOptions } from '../models/lora.js'

/** Name of the adapter that a recipe adds. */
export const TRAINED = 'default'

/**
 * Adds the adapter that `lora` asks for; an adapter that is in use already is trained further. Whether low-rank updates
 * are what is trained.
 */
export async function prepareAdapter(
  model: TrainableModel,
  options: { lora?: Omit<LoraOptions, 'seed'> | undefined; seed: number },
  name = TRAINED,
): Promise<boolean> {
  if (options.lora) await model.addAdapter(name, { ...options.lora, seed: options.seed })
  return model.adapter !== null
}
