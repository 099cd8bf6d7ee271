import type { PackedBatch } from '../../addon/training.js'
import { IGNORE_INDEX } from '../../addon/training.js'
import type { RowTokens } from '../encode/mask.js'
import type { UnpairedSet } from '../unpaired.js'
import type { Loader } from './loader.js'
import { packRows } from './pack.js'
import { type ResponseBatch, type ResponseLoaderOptions, responseLoader } from './responses.js'

/** Single responses, each labeled good or bad. */
export interface UnpairedBatch extends ResponseBatch {
  /** Responses: what the loss divides by. */
  count: number
  /** 1 for a good response, [D]. */
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
 * Each prompt with the response to the next one, the last with that to the first, for KTO's estimate of the KL: over all
 * batches of a step, and packed as they are. `maxLength` bounds prompt and response, whose end is cut. Empty where there
 * is only one response.
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
    const exchanges = of.map((row) => {
      next = (next + 1) % all.length
      return exchanged(row, all[next]!, maxLength)
    })
    const pack = packRows(exchanges)
    return { ...pack, labels: pack.labels! }
  })
}

/** The prompt of one row with the response of another. */
function exchanged(asked: RowTokens, answered: RowTokens, maxLength: number): RowTokens {
  const start = (row: RowTokens) => row.labels.findIndex((label) => label !== IGNORE_INDEX)
  const prompt = asked.inputIds.subarray(0, start(asked))
  const response = answered.inputIds
    .subarray(start(answered))
    .subarray(0, Math.max(1, maxLength - prompt.length))
  const inputIds = new Int32Array(prompt.length + response.length)
  inputIds.set(prompt)
  inputIds.set(response, prompt.length)
  const labels = new Int32Array(inputIds.length).fill(IGNORE_INDEX)
  labels.set(answered.labels.subarray(start(answered)).subarray(0, response.length), prompt.length)
  return { inputIds, labels, weight: 1 }
}
