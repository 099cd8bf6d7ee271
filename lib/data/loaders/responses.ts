import type { PackedBatch } from '../../addon/training.js'
import { permutation, STREAM } from '../../random.js'
import type { RowTokens } from '../encode/mask.js'
import type { ResponseGroup, ResponseSet } from '../responses.js'
import type { Loader } from './loader.js'
import { packRows } from './pack.js'

/** A packed batch of responses, each after its prompt. */
export interface ResponseBatch extends PackedBatch {
  labels: Int32Array
  /** Tokens, prompts included. */
  tokens: number
  rowNames: string[]
  /** Place of each document among all responses of the run. */
  places: Int32Array
  /** From 0. */
  epoch: number
}

export interface ResponseLoaderOptions {
  /** Prompts per batch, with all their responses. */
  batchSize: number
  shuffle: boolean
  seed: number
}

/** Batches of the groups of a set; `more` adds the fields that the loss needs. */
export function responseLoader<Group extends ResponseGroup, More extends { count: number }>(
  set: ResponseSet<Group>,
  { batchSize, shuffle, seed }: ResponseLoaderOptions,
  more: (groups: readonly Group[]) => More,
): Loader<ResponseBatch & More> {
  const { groups, store, report, hash } = set
  const read = async ({ first, count }: Group) =>
    await Promise.all(Array.from({ length: count }, (_, i) => store.read(first + i)))
  return {
    report,
    hash,
    batchesIn: () => Math.ceil(groups.length / batchSize),
    async *epoch(epoch, { from = 0 } = {}) {
      const order = shuffle
        ? permutation(groups.length, seed, STREAM.order + epoch)
        : Uint32Array.from(groups.keys())
      for (let at = from * batchSize; at < order.length; at += batchSize) {
        const taken = Array.from(order.subarray(at, at + batchSize), (i) => groups[i]!)
        const rows = (await Promise.all(taken.map(read))).flat()
        yield { ...packed(set.firstPlace, taken, rows), epoch, ...more(taken) }
      }
    },
  }
}

function packed(firstPlace: number, groups: readonly ResponseGroup[], rows: readonly RowTokens[]) {
  const { inputIds, offsets, labels } = packRows(rows)
  const placesOf = ({ first, count }: ResponseGroup) =>
    Array.from({ length: count }, (_, i) => firstPlace + first + i)
  return {
    inputIds,
    offsets,
    labels: labels!,
    tokens: inputIds.length,
    rowNames: groups.map(({ origin }) => origin),
    places: Int32Array.from(groups.flatMap(placesOf)),
  }
}
