import { PosttrainError } from '../../errors.js'
import type { Model } from '../../models/model.js'
import type { LoraOptions } from '../../models/options.generated.js'
import { refuseWhileTrained } from './training-lock.js'

/**
 * Adds an adapter with option `lora`; an adapter in use is trained further. Disposing removes the added adapter unless
 * `kept`: a run that fails before its start event leaves the model unchanged, so that the same call can be repeated.
 */
export async function prepareAdapter(
  model: Model,
  options: { lora?: Omit<LoraOptions, 'seed'> | undefined; seed: number },
  kept: () => boolean,
): Promise<PreparedAdapter> {
  if (options.lora && model.adapter !== null) {
    // A new adapter would replace it, and its training would be lost.
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `lora adds an adapter, and the model has ${model.adapter} in use: leave out lora to train that one further, or merge it first`,
    )
  }
  if (options.lora) {
    refuseWhileTrained(model)
    await model.addAdapter(freeName(model, 'default'), { ...options.lora, seed: options.seed })
  }
  return {
    adapted: model.adapter !== null,
    async [Symbol.asyncDispose]() {
      if (options.lora === undefined || kept() || model.role.disposed) return
      await model.role.removeAdapter()
    },
  }
}

/** Whether an adapter is trained. Disposing removes an adapter that was added and is not kept. */
export interface PreparedAdapter extends AsyncDisposable {
  readonly adapted: boolean
}

/** The error for an option that applies to whole models, when an adapter is trained. */
export function noEffectOnAdapter(recipe: string, name: string, { adapter }: Model): PosttrainError {
  return new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `${recipe}: option ${name} has no effect while adapter ${adapter} is trained, since adapters are saved in float32: leave it out`,
  )
}

/** A name for a new adapter: `wanted`, numbered if the base has an adapter of that name. */
export function freeName(model: Model, wanted: string): string {
  const { adapters } = model.role.base
  for (let n = 1; ; n++) {
    const name = n === 1 ? wanted : `${wanted}-${n}`
    if (!adapters.has(name)) return name
  }
}
