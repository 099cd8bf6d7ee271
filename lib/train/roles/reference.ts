import type { PackedBatch } from '../../addon/addon.js'
import { type Batch, toPacked } from '../../data/index.js'
import { PosttrainError } from '../../errors.js'
import type { CausalLM } from '../../models/causal-lm.js'
import type { Model } from '../../models/model.js'
import { RewardModel } from '../../models/reward-model.js'
import { Role } from '../../models/role.js'
import type { Loader, TrainBatch } from '../supervised/objective.js'
import type { Environment } from '../supervised/state.js'
import { freeName } from './adapter.js'

/**
 * The policy as it is now, frozen, for a run to compare with: the base with the adapter off where the adapter is new, a
 * frozen copy of an adapter that is trained on, or with all weights in training a copy of them. Before the first step.
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

/** Frees a model that a run made, and the adapter that was made for it. */
export async function release(model: Model): Promise<void> {
  if (model.adapter !== null) await model.role.removeAdapter()
  await model.dispose()
}

/** Throws ERR_INVALID_ARGUMENT for a model that would be trained along with the policy, and so could not judge it. */
export function refuseTrainedWeights(judge: Model, policy: CausalLM, what: string): void {
  if (judge.role.base !== policy.role.base) return
  if (policy.adapter !== null && judge.adapter !== policy.adapter) return
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `${what} stands on the weights that are trained, so it would change with them: load it a second time (or clone() it), or train with lora`,
  )
}

/**
 * What the reference says of some texts, and what the base under an adapter says, which a checkpoint does not bring: by
 * their sum a resume knows both again. Null where there is neither.
 */
export async function likelihoodBefore(
  model: CausalLM,
  reference: CausalLM | null,
  texts: readonly { promptIds: Int32Array }[],
): Promise<number | null> {
  const batch = batchOf(texts)
  const said = reference && -(await reference.evaluate(batch, { kind: 'crossEntropy' })).loss
  return model.adapter === null ? said : (said ?? 0) + (await sayingOfBase(model, batch))
}

/** The same, of the first batch of a run that learns from given rows. */
export async function likelihoodWithBase(
  model: Model,
  said: number | null,
  train: Loader<TrainBatch & Batch>,
): Promise<number | null> {
  if (model.adapter === null) return said
  for await (const batch of train.epoch(0)) return (said ?? 0) + (await sayingOfBase(model, toPacked(batch)))
  return said
}

/** Mean log-probability of the labels by the base alone. */
async function sayingOfBase(model: Model, batch: PackedBatch): Promise<number> {
  const base = await Role.create(model.role.base)
  try {
    const [sums] = await base.evaluate(batch, [{ kind: 'crossEntropy' }], {})
    return -sums!.loss / Math.max(1, sums!.count)
  } finally {
    await base.dispose()
  }
}

function batchOf(texts: readonly { promptIds: Int32Array }[]): PackedBatch {
  // The first token once more at the end, so that a text of one token says something too.
  const ids = texts.slice(0, 8).map(({ promptIds }) => [...promptIds, promptIds[0]!])
  const offsets = [0]
  for (const { length } of ids) offsets.push(offsets.at(-1)! + length)
  const inputIds = Int32Array.from(ids.flat())
  return { inputIds, labels: inputIds, offsets: Int32Array.from(offsets) }
}

/** A resumed run needs the reference that it began with: a model in training does not do for it. */
export function refuseOtherReference(
  before: { reference: number | null; environment: Environment | null },
  now: { reference: number | null; environment: Environment },
): void {
  const [a, b] = [before.reference, now.reference]
  if (a === null || b === null) return
  const bits = hasSameBits(before.environment, now.environment)
  if (bits ? a === b : Math.abs(a - b) <= 1e-2 * Math.abs(a)) return
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    'Cannot resume: the reference is another model than the one this run began with, or the base under the adapter is; give the model (and adapter) that it started from, since the checkpoint brings what was trained',
  )
}

/** What each reward model says of some texts, on the mean. */
export async function scoresBefore(
  sources: readonly { reward: unknown }[],
  texts: readonly { promptIds: Int32Array }[],
): Promise<number[]> {
  const means: number[] = []
  for (const { reward } of sources) {
    if (!(reward instanceof RewardModel)) continue
    const scores = await reward.scores(texts.slice(0, 8).map(({ promptIds }) => promptIds))
    means.push(scores.reduce((sum, score) => sum + score, 0) / scores.length)
  }
  return means
}

/** A resumed run is judged as it was: the config of a run says nothing of a reward model's weights. */
export function refuseOtherJudges(
  before: { judges?: readonly number[]; environment: Environment | null },
  now: { judges: readonly number[]; environment: Environment },
): void {
  const bits = hasSameBits(before.environment, now.environment)
  const other = now.judges.some((b, i) => {
    const a = before.judges?.[i] ?? b
    return bits ? a !== b : Math.abs(a - b) > 1e-2 * (1 + Math.abs(a))
  })
  if (!other) return
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    'Cannot resume: a reward model scores otherwise than the one this run began with; give the same, or take another output',
  )
}

function hasSameBits(before: Environment | null, now: Environment): boolean {
  return now.device === 'cpu' && JSON.stringify(before) === JSON.stringify(now)
}
