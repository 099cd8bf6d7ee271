import type { PackedBatch } from '../../addon/addon.js'
import { type Batch, toPacked } from '../../data/index.js'
import { PosttrainError } from '../../errors.js'
import type { CausalLM } from '../../models/causal-lm.js'
import type { Model } from '../../models/model.js'
import { RewardModel } from '../../models/reward-model.js'
import { Role } from '../../models/role.js'

/** By what a resume knows the models again that a run does not train, since no checkpoint brings them. */
export interface Fingerprint {
  /**
   * Mean log-probability of a few texts by the reference, plus that by the base under an adapter; null where there is
   * neither.
   */
  reference: number | null
  /** Mean score of a few prompts by each reward model. */
  judges?: readonly number[]
}

/** Texts that a fingerprint is taken of. */
const TEXTS = 8

/** Fingerprint of a run that rolls out, by its first prompts. */
export async function policyFingerprint(
  model: CausalLM,
  reference: CausalLM | null,
  sources: readonly { reward: unknown }[],
  prompts: readonly { promptIds: Int32Array }[],
): Promise<Required<Fingerprint>> {
  const texts = prompts.slice(0, TEXTS).map(({ promptIds }) => promptIds)
  const batch = packed(texts)
  let likelihood = reference && -(await reference.evaluate(batch, { kind: 'crossEntropy' })).loss
  if (model.adapter !== null) likelihood = (likelihood ?? 0) + (await likelihoodOfBase(model, batch))
  const judges: number[] = []
  for (const { reward } of sources) {
    if (!(reward instanceof RewardModel)) continue
    const scores = await reward.scores(texts)
    judges.push(scores.reduce((sum, score) => sum + score, 0) / scores.length)
  }
  return { reference: likelihood, judges }
}

/** Fingerprint of a run that learns from given rows, by its first batch; `likelihood` is the reference's, null without one. */
export async function supervisedFingerprint(
  model: Model,
  likelihood: number | null,
  train: { epoch(epoch: number): AsyncIterable<Batch> },
): Promise<Fingerprint> {
  if (model.adapter === null) return { reference: likelihood }
  for await (const batch of train.epoch(0))
    return { reference: (likelihood ?? 0) + (await likelihoodOfBase(model, toPacked(batch))) }
  return { reference: likelihood }
}

/** Mean log-probability of the labels by the base alone. */
async function likelihoodOfBase(model: Model, batch: PackedBatch): Promise<number> {
  const base = await Role.create(model.role.base)
  try {
    const [sums] = await base.evaluate(batch, [{ kind: 'crossEntropy' }], {})
    return -sums!.loss / Math.max(1, sums!.count)
  } finally {
    await base.dispose()
  }
}

function packed(texts: readonly Int32Array[]): PackedBatch {
  // The first token once more at the end, so that a text of one token has a label too.
  const ids = texts.map((text) => [...text, text[0]!])
  const offsets = [0]
  for (const { length } of ids) offsets.push(offsets.at(-1)! + length)
  const inputIds = Int32Array.from(ids.flat())
  return { inputIds, labels: inputIds, offsets: Int32Array.from(offsets) }
}

/**
 * Throws ERR_INVALID_ARGUMENT where a resumed run has another reference, base or reward model than it began with. Equal
 * to the bit where the same bits are to be expected, else within one part in a hundred.
 */
export function refuseOtherModels(
  before: { reference: number | null; judges?: readonly number[] },
  now: Fingerprint,
  sameBits: boolean,
): void {
  const [a, b] = [before.reference, now.reference]
  if (a !== null && b !== null && !(sameBits ? a === b : Math.abs(a - b) <= 1e-2 * Math.abs(a))) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      'Cannot resume: the reference is another model than the one this run began with, or the base under the adapter is; give the model (and adapter) that it started from, since the checkpoint brings what was trained',
    )
  }
  const otherJudge = now.judges?.some((score, i) => {
    const known = before.judges?.[i] ?? score
    return sameBits ? known !== score : Math.abs(known - score) > 1e-2 * (1 + Math.abs(known))
  })
  if (!otherJudge) return
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    'Cannot resume: a reward model scores otherwise than the one this run began with; give the same, or take another output',
  )
}
