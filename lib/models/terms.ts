import type { PackedBatch, RoleHandle, TermOver, TermResult } from '../addon/addon.js'
import { IGNORE_INDEX } from '../addon/training.js'
import { type Batch, isPredicted } from '../data/index.js'
import { PosttrainError } from '../errors.js'
import type { Role } from './role.js'

/** A model with logits over its vocabulary: a CausalLM. */
export interface LogitsModel {
  logits(batch: Batch): Promise<Float32Array>
  /** @internal */
  readonly role: Role
}

/**
 * One loss term of a backward pass. Vectors [T] have one value per token of the batch and are read where the token is a
 * label; `weights` of the batch multiply crossEntropy, ppoPolicy, ppoValue, kl and fullKl. ppoValue and pairwiseReward
 * need a RewardModel, all others a CausalLM. `coefficient` defaults to 1.
 */
export type LossTerm = TermOver<LogitsModel>

/** Further sums of each kind of term, none of them divided by a count. */
export interface FurtherSums {
  crossEntropy: 'correct' | 'entropySum' | 'labels'
  weightedLogProb: never
  ppoPolicy: 'clipped' | 'approxKl' | 'ratio' | 'ratioSquared' | 'entropySum' | 'labels'
  ppoValue: 'clipped'
  kl: never
  fullKl: never
  dpo: 'correct' | 'chosenReward' | 'rejectedReward' | 'chosenLogProb' | 'rejectedLogProb'
  kto: 'desirable' | 'desirableReward' | 'undesirableReward'
  /** `rewards`: sum of the scores of all `documents`; `minReward` and `maxReward`: the lowest and highest score. */
  pairwiseReward: 'correct' | 'margin' | 'rewards' | 'documents' | 'minReward' | 'maxReward'
}

export type TermKind = LossTerm['kind']

/** Options of `evaluate`. */
export interface EvaluateOptions {
  /** `loss` is `lossSum` divided by this. At least 0. Default: the `count` of each term. */
  normalizer?: number
  /** Log-probabilities are those of logits / temperature. Above 0. Defaults to `1`. */
  temperature?: number
  /** Aborts between two layers. Optional. */
  signal?: AbortSignal | undefined
}

/** Options of `backward`. */
export interface BackwardOptions extends EvaluateOptions {
  /**
   * Divides the loss and its gradients. At least 0. Default: the terms' count in this batch, that is the sum of the
   * weights of its labels, sequences or pairs; required if the terms count different things.
   */
  normalizer?: number
  /** Activation checkpointing: keeps only each block's input and recomputes the rest; less memory, more time. Defaults to `false`. */
  checkpointing?: boolean
  /** Random seed of LoRA dropout; 0 turns dropout off. An integer of at least 0. Defaults to `0`. */
  dropoutSeed?: number
}

/** A term of the given kinds. */
export type TermOf<Kind extends TermKind> = LossTerm & { kind: Kind }

/**
 * Weighted sums over what a term counts: the labels, sequences or pairs of a batch. Losses and entropies are in nats.
 * Only `loss` is divided, and no sum is multiplied by the term's coefficient.
 */
export type LossSums<Kind extends TermKind = 'crossEntropy'> = Kind extends unknown
  ? {
      /** lossSum / normalizer; 0 if the normalizer is 0. */
      loss: number
      lossSum: number
      /** Sum of the weights: what a mean divides by. */
      count: number
    } & { [Name in FurtherSums[Kind]]: number }
  : never

/** The core's sums of one term under their public names. */
export function sumsOf(result: TermResult, normalizer: number): LossSums<TermKind> {
  const { loss: lossSum, count, entropy, ...further } = result
  return {
    loss: normalizer === 0 ? 0 : lossSum / normalizer,
    lossSum,
    count,
    ...further,
    ...(entropy !== undefined && { entropySum: entropy }),
  } as LossSums<TermKind>
}

/**
 * Converts terms for the core, which knows roles and not models. Throws ERR_INVALID_ARGUMENT for terms that cannot
 * share a forward pass.
 */
export function nativeTerms(terms: readonly LossTerm[]): TermOver<RoleHandle>[] {
  const ignored = ignoreIndexOf(terms)
  return terms.map((term) => {
    if (term.kind === 'crossEntropy' && (term.ignoreIndex ?? IGNORE_INDEX) !== ignored) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `crossEntropy: ignoreIndex ${term.ignoreIndex ?? IGNORE_INDEX} cannot be combined with ${ignored}: all terms read the same labels`,
      )
    }
    if (term.kind !== 'fullKl') return term
    const { reference } = term
    if (typeof reference === 'object' && 'logits' in reference)
      return { ...term, reference: reference.role.handle }
    throw new PosttrainError('ERR_INVALID_ARGUMENT', 'fullKl: the reference must be a CausalLM')
  })
}

/** The ignored label: that of the first crossEntropy, for all terms. */
function ignoreIndexOf(terms: readonly LossTerm[]): number {
  return terms.find((term) => term.kind === 'crossEntropy')?.ignoreIndex ?? IGNORE_INDEX
}

/**
 * The terms' count in a batch, the default normalizer of a backward pass. Throws ERR_INVALID_ARGUMENT if they count
 * different things: pairs and tokens have no common mean.
 */
export function countOf(batch: PackedBatch, terms: readonly LossTerm[]): number {
  const counts = terms.map((term) => countOfOne(batch, term, ignoreIndexOf(terms)))
  const [first = 0] = counts
  if (counts.every((count) => count === first)) return first
  const listed = terms.map(({ kind }, i) => `${kind} ${counts[i]}`).join(', ')
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `backward: the terms count different things (${listed}), so there is no default: pass a normalizer`,
  )
}

function countOfOne(batch: PackedBatch, term: LossTerm, ignored: number): number {
  const weight = (t: number) => batch.weights?.[t] ?? 1
  switch (term.kind) {
    case 'crossEntropy':
    case 'ppoValue':
    case 'kl':
    case 'fullKl':
      return sumOverLabels(batch, ignored, weight)
    case 'weightedLogProb':
      return sumOverLabels(batch, ignored, () => 1)
    case 'ppoPolicy': {
      // A sequence counts once, with the weight of its first label.
      const { sequence, importance } = term
      return sumOverLabels(batch, ignored, (t, isFirst) =>
        (sequence === true && !isFirst) || importance?.[t] === 0 ? 0 : weight(t),
      )
    }
    case 'dpo':
    case 'pairwiseReward':
      return term.weights === undefined
        ? term.pairs.length / 2
        : Array.from(term.weights).reduce((sum, value) => sum + value, 0)
    case 'kto':
      return term.desirable.length
    default:
      return term satisfies never
  }
}

/** Sums over the labels of a batch. A document's first token is never a label, since nothing predicts it. */
function sumOverLabels(
  { offsets, labels }: PackedBatch,
  ignoreIndex: number,
  value: (t: number, isFirst: boolean) => number,
): number {
  let sum = 0
  for (let d = 0; labels !== undefined && d + 1 < offsets.length; d++) {
    let isFirst = true
    for (let t = offsets[d]!; t < offsets[d + 1]!; t++) {
      if (!isPredicted(labels, t, offsets[d]!, ignoreIndex)) continue
      sum += value(t, isFirst)
      isFirst = false
    }
  }
  return sum
}
