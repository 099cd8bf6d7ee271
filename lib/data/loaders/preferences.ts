import type { PreferenceGroup, PreferenceSet } from '../preferences.js'
import type { Loader } from './loader.js'
import { type ResponseBatch, type ResponseLoaderOptions, responseLoader } from './responses.js'

/** Responses with the pairs among them. */
export interface PreferenceBatch extends ResponseBatch {
  /** Sum of the pair weights, the normalizer of the loss. */
  count: number
  /** Chosen and rejected document of each pair, [2 P]. */
  pairs: Int32Array
  /** Margin of the chosen over the rejected score, [P]. */
  margins: Float64Array
  /** Pair weights, which add up to 1 for each prompt, [P]. */
  pairWeights: Float64Array
}

/** Batches of pairs; all pairs of a prompt are in one batch. */
export function preferenceLoader(
  set: PreferenceSet,
  options: ResponseLoaderOptions,
): Loader<PreferenceBatch> {
  return responseLoader(set, options, pairsOf)
}

function pairsOf(groups: readonly PreferenceGroup[]) {
  const pairs: number[] = []
  const margins: number[] = []
  const weights: number[] = []
  let first = 0
  for (const group of groups) {
    for (const { chosen, rejected, margin, weight } of group.pairs) {
      pairs.push(first + chosen, first + rejected)
      margins.push(margin)
      weights.push(weight)
    }
    first += group.count
  }
  return {
    pairs: Int32Array.from(pairs),
    margins: Float64Array.from(margins),
    pairWeights: Float64Array.from(weights),
    count: weights.reduce((sum, weight) => sum + weight, 0),
  }
}
