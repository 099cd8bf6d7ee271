import { PosttrainError } from '../errors.js'
import { roleOf, type TrainableModel } from '../models/causal-lm.js'
import type { LoraOptions } from '../models/lora.js'

/**
 * Adds the adapter that `lora` asks for; an adapter that is in use already is trained further. Whether low-rank updates
 * are what is trained.
 */
export async function prepareAdapter(
  model: TrainableModel,
  options: { lora?: Omit<LoraOptions, 'seed'> | undefined; seed: number },
): Promise<boolean> {
  if (options.lora && model.adapter !== null) {
    // A new one would take its place, and what it has learnt would be gone.
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `lora adds an adapter, and the model has ${model.adapter} in use: leave lora out to train that one further, or merge it first`,
    )
  }
  if (options.lora) await model.addAdapter(freeName(model), { ...options.lora, seed: options.seed })
  return model.adapter !== null
}

/** For an option of whole models where the adapter in use is what is trained and saved. */
export function noEffect(recipe: string, name: string, { adapter }: TrainableModel): PosttrainError {
  return new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `${recipe}: option ${name} has no effect where the adapter ${adapter} is trained, which is saved as an adapter in float32: leave it out`,
  )
}

/** Another role of the base may have one that an earlier recipe added, such as a reward model. */
function freeName(model: TrainableModel): string {
  const { adapters } = roleOf(model).base
  for (let n = 1; ; n++) {
    const name = n === 1 ? 'default' : `default-${n}`
    if (!adapters.has(name)) return name
  }
}
