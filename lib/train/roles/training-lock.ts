import { PosttrainError } from '../../errors.js'
import type { SharedBase } from '../../models/base.js'
import type { Model } from '../../models/model.js'

/** Of each base in memory: the adapters that runs train now; null for the base itself. */
const held = new WeakMap<SharedBase, Set<string | null>>()

/**
 * Takes what a model trains for one run, until what it gives is disposed of. Two runs would add their gradients to one
 * another's, and a run of an adapter would see its base move under it. Throws ERR_INVALID_ARGUMENT while another holds it.
 */
export function takeForTraining(model: Model): Disposable {
  const { base, adapter } = model.role
  if (isFrozen(model)) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `The weights of the model are frozen while it has adapters (${[...base.adapters.keys()].join(', ')}), and none of them is in use: setAdapter() one, train with lora, or clone() the model to train all of its weights`,
    )
  }
  const others = held.get(base) ?? new Set()
  held.set(base, others)
  if (others.has(adapter) || others.has(null) || (adapter === null && others.size > 0)) throw inTraining()
  others.add(adapter)
  return { [Symbol.dispose]: () => void others.delete(adapter) }
}

/** Before an adapter is added, which freezes the base: throws ERR_INVALID_ARGUMENT while a run trains that. */
export function refuseFreezing(model: Model): void {
  if (held.get(model.role.base)?.has(null)) throw inTraining()
}

/**
 * Before each step and each save: between two of them a model may be used with another adapter or none, but what is trained must be in
 * use again, or the run would go on and learn nothing. Throws ERR_INVALID_ARGUMENT.
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

/** Without an adapter in use on a base that has some. */
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
