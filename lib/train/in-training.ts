import { PosttrainError } from '../errors.js'
import { roleOf, type TrainableModel } from '../models/causal-lm.js'
import type { SharedBase } from '../models/native.js'

/** Of each base in memory: the adapters that runs train now; null for the base itself. */
const held = new WeakMap<SharedBase, Set<string | null>>()

/**
 * Takes what a model trains for one run, until what it gives is disposed of. Two runs would add their gradients to one
 * another's, and a run of an adapter would see its base move under it. Throws ERR_INVALID_ARGUMENT while another holds it.
 */
export function takeForTraining(model: TrainableModel): Disposable {
  const { base, adapter } = roleOf(model)
  if (adapter === null && base.adapters.size > 0) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `The weights of the model are frozen while it has adapters (${[...base.adapters.keys()].join(', ')}), and none of them is in use: setAdapter() one, train with lora, or clone() the model to train all of its weights`,
    )
  }
  const others = held.get(base) ?? new Set()
  held.set(base, others)
  if (others.has(adapter) || others.has(null) || (adapter === null && others.size > 0)) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      'The model is being trained by another run, which has not ended: wait for its end or leave its loop first, or train a clone()',
    )
  }
  others.add(adapter)
  return { [Symbol.dispose]: () => void others.delete(adapter) }
}
