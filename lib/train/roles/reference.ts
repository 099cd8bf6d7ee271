import { PosttrainError } from '../../errors.js'
import type { CausalLM } from '../../models/causal-lm.js'
import type { Model } from '../../models/model.js'
import { freeName } from './adapter.js'

/**
 * Creates the reference before the first step: `given`, else the current policy, frozen. For a new adapter that is the
 * base without it, for an adapter that is trained further a copy of it, for all weights a copy of the model. `owned`: the
 * run created it and must free it.
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
        `the reference has a vocabulary of ${given.vocabSize} tokens, the model one of ${model.vocabSize}: they must be equal`,
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

/** Disposes a model that a run created, with the adapter created for it. */
export async function release(model: Model): Promise<void> {
  if (model.adapter !== null) await model.role.removeAdapter()
  await model.dispose()
}

/** Throws ERR_INVALID_ARGUMENT if a frozen model shares weights that the policy trains: it would change with them. */
export function refuseTrainedWeights(judge: Model, policy: CausalLM, what: string): void {
  if (judge.role.base !== policy.role.base) return
  if (policy.adapter !== null && judge.adapter !== policy.adapter) return
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `${what} shares the weights that are trained, so it would change with them: load it a second time (or clone() it), or train with lora`,
  )
}
