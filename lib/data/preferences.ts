import type { EncodedRow } from './encode/mask.js'
import {
  loadResponses,
  type PairCounts,
  type ResponseGroup,
  type ResponseKind,
  type ResponseOptions,
  type ResponseSet,
} from './responses.js'
import { preferenceIn } from './rows/preference-rows.js'
import type { Example } from './rows/rows.js'
import type { DataSource } from './sources.js'
import type { Split } from './validation.js'

/** Responses to one prompt with the pairs among them. */
export interface PreferenceGroup extends ResponseGroup {
  /** `chosen` and `rejected` count responses from 0 in the group; the weights add up to 1. */
  pairs: { chosen: number; rejected: number; margin: number; weight: number }[]
}

export type PreferenceSet = ResponseSet<PreferenceGroup>

export interface PreferenceOptions extends ResponseOptions {
  /** Whether the responses of a row may have prompts of their own: a reward model scores each whole. Default `false`. */
  apart?: boolean
}

interface Read {
  examples: Example[]
  apart: boolean
  margin: number
  scores: readonly number[] | undefined
}

const preferences = (options: { apart?: boolean }): ResponseKind<Read, PreferenceGroup> => ({
  name: 'preference',
  read(columns) {
    const { responses, apart, margin, scores } = preferenceIn(columns, options)
    return { examples: responses, apart, margin, scores }
  },
  groups({ apart, margin, scores }, encoded, counts) {
    if (apart) counts.apart++
    const pairs = pairsOf(encoded, counts, scores)
    if (pairs.length === 0) return []
    // Responses without a remaining pair are dropped, so that they cost no forward.
    const inPair = (i: number) => pairs.some(({ chosen, rejected }) => chosen === i || rejected === i)
    const used = [...encoded.keys()].filter(inPair)
    const known = pairs.map(({ chosen, rejected }) => ({
      chosen: used.indexOf(chosen),
      rejected: used.indexOf(rejected),
      margin,
      weight: 1 / pairs.length,
    }))
    return [{ used, known: { pairs: known } }]
  },
  pairsIn: ({ pairs }) => pairs.length,
  mark: () => 0,
  hashed({ first, count, pairs }) {
    const inHash = pairs.map(({ chosen, rejected, margin, weight }) => ({
      better: chosen,
      worse: rejected,
      margin,
      weight,
    }))
    // `better` and `worse` are part of hashes in run folders.
    return [first, count, inHash, false]
  },
})

/** Pairs of the remaining, differing responses; each response is preferred to all after it that have another score. */
function pairsOf(
  encoded: readonly (EncodedRow | null)[],
  counts: PairCounts,
  scores: readonly number[] | undefined,
) {
  const pairs: { chosen: number; rejected: number }[] = []
  for (const [chosen, a] of encoded.entries()) {
    for (const [offset, b] of encoded.slice(chosen + 1).entries()) {
      const rejected = chosen + 1 + offset
      if (scores !== undefined && scores[chosen] === scores[rejected]) continue
      if (a === null || b === null) counts.brokenPairs++
      else if (sameIds(a.inputIds, b.inputIds)) counts.identical++
      else pairs.push({ chosen, rejected })
    }
  }
  counts.pairs += pairs.length
  return pairs
}

const sameIds = (a: Int32Array, b: Int32Array) => a.length === b.length && a.every((id, i) => id === b[i])

/** Reads preference data: pairs (`prompt + chosen + rejected`) or rankings (`prompt + responses`). Throws ERR_DATA. */
export async function loadPreferences(
  source: DataSource,
  options: PreferenceOptions,
): Promise<Split<PreferenceSet>> {
  return await loadResponses(preferences(options), source, options)
}
