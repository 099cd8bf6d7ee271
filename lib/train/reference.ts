import { PosttrainError } from '../errors.js'
import type { CausalLM } from '../models/causal-lm.js'

/**
 * The policy as it is now, frozen, for a run to compare with: the base with the adapter off where the adapter is new, a
 * frozen copy of an adapter that is trained on, or with all weights in training a copy of them. Before the first step.
 */
export async function frozenReference(
  model: CausalLM,
  options: { given?: CausalLM | undefined; added: boolean; name: string },
): Promise<{ reference: CausalLM; owned: boolean }> {
  const { given, added, name } = options
  if (given !== undefined) {
    if (given.vocabSize !== model.vocabSize) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `the reference has a vocabulary of ${given.vocabSize} tokens, the model of ${model.vocabSize}: they must be of one kind`,
      )
    }
    return { reference: given, owned: false }
  }
  const { adapter } = model
  if (adapter === null) return { reference: await model.clone(), owned: true }
  if (added) return { reference: await model.view(), owned: true }
  if (!model.adapters.includes(name)) await model.copyAdapter(adapter, name)
  return { reference: await model.view({ adapter: name }), owned: true }
}
