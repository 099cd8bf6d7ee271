import { PosttrainError } from '../../errors.js'
import type { LoraOptions } from '../../models/lora.js'
import type { Model } from '../../models/model.js'
import type { RunControl } from '../run/run.js'
import { refuseFreezing } from './training-lock.js'

/**
 * Adds the adapter that `lora` asks for; an adapter that is in use already is trained further. A run that fails before
 * its start event leaves the model as it was, so that the same call can be made again.
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
    refuseFreezing(model)
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

/** Whether low-rank updates are what is trained. Disposed of, it takes an adapter off that was added and is not kept. */
export interface PreparedAdapter extends AsyncDisposable {
  readonly adapted: boolean
}

/** Whether the start event of a run was reached: from there on the model is what the run made of it. */
export const hasStarted = (control: RunControl) => (): boolean => control.summary !== null

/** For an option of whole models where the adapter in use is what is trained and saved. */
export function noEffect(recipe: string, name: string, { adapter }: Model): PosttrainError {
  return new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `${recipe}: option ${name} has no effect where the adapter ${adapter} is trained, which is saved as an adapter in float32: leave it out`,
  )
}

/** Another role of the base may have one of this name, which its owner or an earlier recipe added. */
export function freeName(model: Model, wanted: string): string {
  const { adapters } = model.role.base
  for (let n = 1; ; n++) {
    const name = n === 1 ? wanted : `${wanted}-${n}`
    if (!adapters.has(name)) return name
  }
}
