import type { PackedBatch } from '../../addon/addon.js'
import { type Batch, toPacked } from '../../data/index.js'
import { PosttrainError } from '../../errors.js'
import type { CausalLM } from '../../models/causal-lm.js'
import type { Model } from '../../models/model.js'
import { RewardModel } from '../../models/reward-model.js'
import { Role } from '../../models/role.js'

/** Fingerprint of the frozen models, which no checkpoint contains. A resume compares it. */
export interface Fingerprint {
  /**
   * Mean log-probability of a few texts by the reference, plus that by the base under an adapter; null if there is
   * neither.
   */
  reference: number | null
  /** Mean score of a few prompts by each reward model. */
  judges?: readonly number[]
}

/** Number of texts in a fingerprint. */
const TEXTS = 8

/** Fingerprint of a policy run, on its first prompts. */
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

/** Fingerprint of a supervised run, on its first batch; `likelihood` is the reference's, null without one. */
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

/** Mean log-probability of the labels by the base without adapters. */
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
  // The first token is repeated at the end, so that a text of one token has a label too.
  const ids = texts.map((text) => [...text, text[0]!])
  const offsets = [0]
  for (const { length } of ids) offsets.push(offsets.at(-1)! + length)
  const inputIds = Int32Array.from(ids.flat())
  return { inputIds, labels: inputIds, offsets: Int32Array.from(offsets) }
}

/**
 * Throws ERR_INVALID_ARGUMENT if a resumed run has another reference, base or reward model than at its start. Values must
 * be equal bit for bit with `sameBits`, else within one part in a hundred.
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
      'Cannot resume: the reference, or the base under the adapter, is another model than at the start of this run; pass the model (and adapter) that it started from, since the checkpoint has only the trained weights',
    )
  }
  const otherJudge = now.judges?.some((score, i) => {
    const known = before.judges?.[i] ?? score
    return sameBits ? known !== score : Math.abs(known - score) > 1e-2 * (1 + Math.abs(known))
  })
  if (!otherJudge) return
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    'Cannot resume: a reward model gives other scores than at the start of this run; pass the same, or choose another output',
  )
}
