import { PosttrainError } from '../../errors.js'
import type { Model } from '../../models/model.js'
import type { LoraOptions } from '../../models/options.generated.js'
import { refuseWhileTrained } from './training-lock.js'

/**
 * Adds the adapter that `lora` asks for; an adapter in use is trained further. Unless `kept`, disposing takes it off
 * again: a run that fails before its start event leaves the model as it was, so that the same call can be repeated.
 */
export async function prepareAdapter(
  model: Model,
  options: { lora?: Omit<LoraOptions, 'seed'> | undefined; seed: number },
  kept: () => boolean,
): Promise<PreparedAdapter> {
  if (options.lora && model.adapter !== null) {
    // A new one would take its place, and what it has learnt would be gone.
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `lora adds an adapter, and the model has ${model.adapter} in use: leave lora out to train that one further, or merge it first`,
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

/** Whether an adapter is trained. Disposing takes off an adapter that was added and is not kept. */
export interface PreparedAdapter extends AsyncDisposable {
  readonly adapted: boolean
}

/** The error for an option of whole models where an adapter is trained and saved. */
export function noEffectOnAdapter(recipe: string, name: string, { adapter }: Model): PosttrainError {
  return new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `${recipe}: option ${name} has no effect where the adapter ${adapter} is trained, which is saved as an adapter in float32: leave it out`,
  )
}

/** A name for a new adapter: `wanted`, or numbered where the base has one of that name. */
export function freeName(model: Model, wanted: string): string {
  const { adapters } = model.role.base
  for (let n = 1; ; n++) {
    const name = n === 1 ? wanted : `${wanted}-${n}`
    if (!adapters.has(name)) return name
  }
}
