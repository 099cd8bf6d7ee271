import type { PackedBatch } from '../../addon/training.js'
import { IGNORE_INDEX } from '../../addon/training.js'
import type { RowTokens } from '../encode/mask.js'
import type { UnpairedSet } from '../unpaired.js'
import type { Loader } from './loader.js'
import { packRows } from './pack.js'
import { type ResponseBatch, type ResponseLoaderOptions, responseLoader } from './responses.js'

/** Single responses, each labeled desirable or not. */
export interface UnpairedBatch extends ResponseBatch {
  /** Number of responses, the normalizer of the loss. */
  count: number
  /** 1 for a desirable response, else 0, [D]. */
  desirable: Uint8Array
}

/** Batches of single responses. */
export function unpairedLoader(set: UnpairedSet, options: ResponseLoaderOptions): Loader<UnpairedBatch> {
  return responseLoader(set, options, (responses) => ({
    count: responses.length,
    desirable: Uint8Array.from(responses, ({ desirable }) => Number(desirable)),
  }))
}

/**
 * Pairs each prompt with the response to the next one, and the last with the first, for KTO's estimate of the KL. Mismatches
 * go across all batches of a step and are packed like them. `maxLength` bounds prompt and response; the response is cut at
 * its end. Empty for a single response.
 */
export function mismatched(
  batches: readonly Pick<UnpairedBatch, 'inputIds' | 'labels' | 'offsets'>[],
  maxLength: number,
): (PackedBatch & { labels: Int32Array })[] {
  const rows = batches.map(({ inputIds, labels, offsets }) =>
    Array.from({ length: offsets.length - 1 }, (_, d): RowTokens => {
      const part = (of: Int32Array) => of.subarray(offsets[d], offsets[d + 1])
      return { inputIds: part(inputIds), labels: part(labels), weight: 1 }
    }),
  )
  const all = rows.flat()
  if (all.length < 2) return []
  let next = 0
  return rows.map((of) => {
    const mismatches = of.map((row) => {
      next = (next + 1) % all.length
      return mismatch(row, all[next]!, maxLength)
    })
    const pack = packRows(mismatches)
    return { ...pack, labels: pack.labels! }
  })
}

/** The prompt of one row with the response of another. */
function mismatch(promptRow: RowTokens, responseRow: RowTokens, maxLength: number): RowTokens {
  const start = (row: RowTokens) => row.labels.findIndex((label) => label !== IGNORE_INDEX)
  const prompt = promptRow.inputIds.subarray(0, start(promptRow))
  const response = responseRow.inputIds
    .subarray(start(responseRow))
    .subarray(0, Math.max(1, maxLength - prompt.length))
  const inputIds = new Int32Array(prompt.length + response.length)
  inputIds.set(prompt)
  inputIds.set(response, prompt.length)
  const labels = new Int32Array(inputIds.length).fill(IGNORE_INDEX)
  labels.set(responseRow.labels.subarray(start(responseRow)).subarray(0, response.length), prompt.length)
  return { inputIds, labels, weight: 1 }
}
