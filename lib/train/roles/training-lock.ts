import { PosttrainError } from '../../errors.js'
import type { Base } from '../../models/base.js'
import type { Model } from '../../models/model.js'

/** Of each base in memory, the adapters that are being trained; null stands for the base itself. */
const locked = new WeakMap<Base, Set<string | null>>()

/**
 * Locks the trained weights for one run; dispose the result to unlock. Two runs would add up their gradients, and a run
 * of an adapter would see its base move. Throws ERR_INVALID_ARGUMENT while another run trains them.
 */
export function lockForTraining(model: Model): Disposable {
  const { base, adapter } = model.role
  if (isFrozen(model)) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `The weights of the model are frozen while it has adapters (${[...base.adapters.keys()].join(', ')}), and none of them is in use: setAdapter() one, train with lora, or clone() the model to train all of its weights`,
    )
  }
  const others = locked.get(base) ?? new Set()
  locked.set(base, others)
  if (others.has(adapter) || others.has(null) || (adapter === null && others.size > 0)) throw inTraining()
  others.add(adapter)
  return { [Symbol.dispose]: () => void others.delete(adapter) }
}

/** Throws ERR_INVALID_ARGUMENT while a run trains the base, which adding an adapter would freeze. */
export function refuseWhileTrained(model: Model): void {
  if (locked.get(model.role.base)?.has(null)) throw inTraining()
}

/**
 * Throws ERR_INVALID_ARGUMENT unless what a run trains is in use: without it the run would go on and learn nothing. Called
 * before each step and each save; between two of them the model may be used with another adapter, or none.
 */
export function refuseOtherAdapter(model: Model, trained: string | null): void {
  if (model.adapter === trained && !isFrozen(model)) return
  const [was, is] = [trained, model.adapter].map((name) => (name === null ? 'no adapter' : `adapter ${name}`))
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    was === is
      ? 'The weights that this run trains were frozen by an adapter that was added to them: add it to a clone() of the model'
      : `This run trains the model with ${was}, and now it has ${is} in use: set it back before the next event`,
  )
}

/** Whether the base has adapters and none of them is in use. */
function isFrozen(model: Model): boolean {
  const { base, adapter } = model.role
  return adapter === null && base.adapters.size > 0
}

function inTraining(): PosttrainError {
  return new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    'The model is being trained by another run, which has not ended: wait for its end or leave its loop first, or train a clone()',
  )
}
