import { PosttrainError } from '../errors.js'
import { type CausalLM, roleOf, type TrainableModel } from '../models/causal-lm.js'
import type { Environment } from './training-state.js'

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
    refuseTrainedWeights(given, model, 'the reference')
    return { reference: given, owned: false }
  }
  const { adapter } = model
  if (adapter === null) return { reference: await model.clone(), owned: true }
  if (added) return { reference: await model.view(), owned: true }
  await model.copyAdapter(adapter, name)
  return { reference: await model.view({ adapter: name }), owned: true }
}

/** Frees a model that a run made, and the adapter that was made for it. */
export async function release(model: TrainableModel): Promise<void> {
  if (model.adapter !== null) await roleOf(model).removeAdapter()
  await model.dispose()
}

/** Throws ERR_INVALID_ARGUMENT for a model that would be trained along with the policy, and so could not judge it. */
export function refuseTrainedWeights(judge: TrainableModel, policy: CausalLM, what: string): void {
  if (roleOf(judge).base !== roleOf(policy).base) return
  if (policy.adapter !== null && judge.adapter !== policy.adapter) return
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `${what} stands on the weights that are trained, so it would change with them: load it a second time (or clone() it), or train with lora`,
  )
}

/** Mean log-probability of some texts, by which a model is known again. */
export async function likelihoodOf(
  model: CausalLM,
  texts: readonly { promptIds: Int32Array }[],
): Promise<number> {
  // The first token once more at the end, so that a text of one token says something too.
  const ids = texts.slice(0, 8).map(({ promptIds }) => [...promptIds, promptIds[0]!])
  const offsets = [0]
  for (const { length } of ids) offsets.push(offsets.at(-1)! + length)
  const inputIds = Int32Array.from(ids.flat())
  const batch = { inputIds, labels: inputIds, offsets: Int32Array.from(offsets) }
  return -(await model.evaluate(batch, { kind: 'crossEntropy' })).loss
}

/** A resumed run needs the reference that it began with: a model in training does not do for it. */
export function refuseOtherReference(
  before: { reference: number | null; environment: Environment | null },
  now: { reference: number | null; environment: Environment },
): void {
  const [a, b] = [before.reference, now.reference]
  if (a === null || b === null) return
  const same = JSON.stringify(before.environment) === JSON.stringify(now.environment)
  if (same && now.environment.device === 'cpu' ? a === b : Math.abs(a - b) <= 1e-2 * Math.abs(a)) return
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    'Cannot resume: the reference is another model than the one this run began with; give the model (and adapter) that it started from, since the checkpoint brings what was trained',
  )
}
