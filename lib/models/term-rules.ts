import { is, needArgument, needOptions, type Rule } from '../arguments.js'
import { PAIR_LOSS_NAMES } from '../options/pair-losses.js'
import type { LossTerm, TermKind } from './terms.js'

type Fields = Readonly<Record<string, Rule>>

/** Fields of each kind of term: those it needs, and those it may have. Ranges are checked by the core. */
const FIELDS: Readonly<Record<TermKind, { needs: Fields; takes: Fields }>> = {
  crossEntropy: { needs: {}, takes: { ignoreIndex: is.number } },
  weightedLogProb: { needs: { weights: is.reals }, takes: {} },
  ppoPolicy: {
    needs: { oldLogProbs: is.reals, advantages: is.reals },
    takes: {
      clipLow: is.number,
      clipHigh: is.number,
      dualClip: is.number,
      sequence: is.flag,
      importance: is.reals,
      entropyCoefficient: is.number,
    },
  },
  ppoValue: { needs: { oldValues: is.reals, returns: is.reals, clip: is.orNull(is.number) }, takes: {} },
  kl: {
    needs: { estimator: is.oneOf('k1', 'k2', 'k3'), referenceLogProbs: is.reals },
    takes: { oldLogProbs: is.reals },
  },
  fullKl: { needs: { direction: is.oneOf('forward', 'reverse'), reference: is.object }, takes: {} },
  dpo: {
    needs: { loss: is.oneOf(...PAIR_LOSS_NAMES), pairs: is.int32 },
    takes: {
      beta: is.number,
      labelSmoothing: is.number,
      gamma: is.number,
      lambda: is.number,
      weights: is.reals,
      referenceSums: is.reals,
    },
  },
  kto: {
    needs: { desirable: is.bytes, referenceSums: is.reals, beta: is.number, kl: is.anyNumber },
    takes: { desirableWeight: is.number, undesirableWeight: is.number },
  },
  pairwiseReward: {
    needs: { pairs: is.int32 },
    takes: { margins: is.reals, weights: is.reals, center: is.number },
  },
}
const KINDS = Object.keys(FIELDS) as TermKind[]

/** Refuses options of `backward` and `evaluate` that are of the wrong kind. */
export function needTermOptions(where: string, options: unknown): void {
  needOptions(where, options, {
    signal: is.signal,
    normalizer: is.number,
    temperature: is.number,
    checkpointing: is.flag,
    dropoutSeed: is.count,
  })
}

export const isList = (terms: LossTerm | readonly LossTerm[]): terms is readonly LossTerm[] =>
  Array.isArray(terms)

/**
 * The terms of one, or of several. Refuses terms whose kind is unknown, or whose fields are missing or of the wrong kind.
 */
export function listOf(given: LossTerm | readonly LossTerm[]): readonly LossTerm[] {
  const terms = isList(given) ? given : [given]
  for (const term of terms as readonly unknown[]) {
    needArgument('the loss', 'a term', term, is.object)
    const { kind, ...fields } = term as { kind: TermKind } & Record<string, unknown>
    needArgument('the loss', 'kind of a term', kind, is.oneOf(...KINDS))
    const { needs, takes } = FIELDS[kind]
    for (const [name, rule] of Object.entries(needs)) needArgument(kind, name, fields[name], rule)
    needOptions(kind, fields, { coefficient: is.number, ...takes })
  }
  return terms
}
