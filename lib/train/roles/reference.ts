import { PosttrainError } from '../../errors.js'
import type { CausalLM } from '../../models/causal-lm.js'
import type { Model } from '../../models/model.js'
import { freeName } from './adapter.js'

/**
 * Makes the reference before the first step: the policy as it is now, frozen. Where the adapter is new that is the base
 * with the adapter off; where one is trained further, a frozen copy of it; where all weights are trained, a copy of them.
 * `owned`: the run has made it and frees it.
 */
export async function frozenReference(
  model: CausalLM,
  options: { given?: CausalLM | undefined; added: boolean },
): Promise<{ reference: CausalLM; owned: boolean }> {
  const { given, added } = options
  if (given !== undefined) {
    if (given.vocabSize !== model.vocabSize) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `the reference has a vocabulary of ${given.vocabSize} tokens, the model of ${model.vocabSize}: they must be of one kind`,
      )
    }
    refuseTrainedWeights(given, model, 'the reference')
    return { reference: given, owned: false }
  }
  const { adapter } = model
  if (adapter === null) return { reference: await model.clone(), owned: true }
  if (added) return { reference: await model.view(), owned: true }
  const name = freeName(model, 'reference')
  await model.copyAdapter(adapter, name)
  return { reference: await model.view({ adapter: name }), owned: true }
}

/** Disposes of a model that a run made, and of the adapter that was made for it. */
export async function release(model: Model): Promise<void> {
  if (model.adapter !== null) await model.role.removeAdapter()
  await model.dispose()
}

/** Throws ERR_INVALID_ARGUMENT for a frozen model on weights that the policy trains: it would change with them. */
export function refuseTrainedWeights(judge: Model, policy: CausalLM, what: string): void {
  if (judge.role.base !== policy.role.base) return
  if (policy.adapter !== null && judge.adapter !== policy.adapter) return
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `${what} stands on the weights that are trained, so it would change with them: load it a second time (or clone() it), or train with lora`,
  )
}
