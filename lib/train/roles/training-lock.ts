import { PosttrainError } from '../../errors.js'
import type { Base } from '../../models/base.js'
import type { Model } from '../../models/model.js'

/** Adapters in training by base; null stands for the base itself. */
const locked = new WeakMap<Base, Set<string | null>>()

/**
 * Locks the trained weights for one run; dispose the result to unlock. Two runs would accumulate into the same gradients,
 * or one would change the base under the adapter of another. Throws ERR_INVALID_ARGUMENT while another run trains them.
 */
export function lockForTraining(model: Model): Disposable {
  const { base, adapter } = model.role
  if (base.quantize !== null && adapter === null) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      'The weights of the model are in 4 bits and frozen: train an adapter upon them with lora, or load the model without quantize',
    )
  }
  if (isFrozen(model)) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `The weights of the model are frozen while it has adapters (${[...base.adapters.keys()].join(', ')}), and none of them is in use: select one with setAdapter(), train with lora, or clone() the model to train all weights`,
    )
  }
  const others = locked.get(base) ?? new Set()
  locked.set(base, others)
  if (others.has(adapter) || others.has(null) || (adapter === null && others.size > 0)) throw inTraining()
  others.add(adapter)
  return { [Symbol.dispose]: () => void others.delete(adapter) }
}

/** Throws ERR_INVALID_ARGUMENT while a run trains the base, which a new adapter would freeze. */
export function refuseWhileTrained(model: Model): void {
  if (locked.get(model.role.base)?.has(null)) throw inTraining()
}

/**
 * Throws ERR_INVALID_ARGUMENT unless the weights that a run trains are in use: else its steps would change nothing. Called
 * before each step and each save; in between the model may use another adapter, or none.
 */
export function refuseOtherAdapter(model: Model, trained: string | null): void {
  if (model.adapter === trained && !isFrozen(model)) return
  const [was, is] = [trained, model.adapter].map((name) => (name === null ? 'no adapter' : `adapter ${name}`))
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    was === is
      ? 'An added adapter froze the weights that this run trains: add it to a clone() of the model instead'
      : `This run trains the model with ${was}, and now it has ${is} in use: switch back before the next event`,
  )
}

/** Whether the base has adapters and none of them is in use. */
function isFrozen(model: Model): boolean {
  const { base, adapter } = model.role
  return adapter === null && (base.adapters.size > 0 || base.quantize !== null)
}

function inTraining(): PosttrainError {
  return new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    'The model is being trained by another run: wait for its end, leave its loop first, or train a clone()',
  )
}
