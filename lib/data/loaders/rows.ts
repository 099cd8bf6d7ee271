import { is, needOptions, shown } from '../../arguments.js'
import { PosttrainError } from '../../errors.js'
import { permutation, STREAM } from '../../random.js'
import type { Dataset } from '../dataset.js'
import { isPredicted, type RowTokens } from '../encode/mask.js'
import type { Loader } from './loader.js'
import { type Batch, packRows, padRows } from './pack.js'

/** A batch with its counts and the origins of its rows. */
export type LoaderBatch = Batch & {
  /** Sum of the label weights, the normalizer of the loss. The first token of a row has no label. */
  count: number
  /** Tokens, without padding. */
  tokens: number
  /** Origins of its rows: `file:line`. */
  rowNames: string[]
}

/** Options of batching. */
export interface BatchOptions {
  /** Rows per batch. An integer of at least 1. Defaults to `8`. */
  batchSize?: number
  /** Maximum tokens per batch, instead of rows; a longer row is a batch alone. An integer of at least 1. Optional. */
  batchTokens?: number
  /** Whether to shuffle the rows in every epoch, by the seed. Defaults to `true`. */
  shuffle?: boolean
  /** Random seed of the order of the rows. An integer of at least 0. Defaults to `0`. */
  seed?: number
  /** 'packed' computes no padding; 'padded' is the textbook's form. Defaults to `'packed'`. */
  form?: 'packed' | 'padded'
}

/** Throws ERR_INVALID_ARGUMENT. */
export function checkBatching({ batchSize, batchTokens, ...others }: BatchOptions): void {
  needOptions('the batches', others, { shuffle: is.flag, seed: is.count, form: is.oneOf('packed', 'padded') })
  for (const [name, value] of Object.entries({ batchSize, batchTokens })) {
    if (value !== undefined && !(Number.isInteger(value) && value > 0)) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `${name} must be a whole number above 0, got ${shown(value)}`,
      )
    }
  }
  if (batchSize !== undefined && batchTokens !== undefined) {
    throw new PosttrainError('ERR_INVALID_ARGUMENT', 'give batchSize or batchTokens, not both')
  }
}

/** Batches of the rows of a data set. `padId` is the token of padding. */
export function rowLoader(dataset: Dataset, options: BatchOptions & { padId: number }): Loader<LoaderBatch> {
  checkBatching(options)
  const { form = 'packed', padId } = options
  const { store, originOf, report, hash } = dataset
  const plans = new Map<number, Uint32Array[]>()
  const planOf = (epoch: number) => {
    const known = plans.get(epoch)
    if (known !== undefined) return known
    const plan = batchesOf(orderOf(dataset, epoch, options), dataset, options)
    // At the end of an epoch two plans are in use: its own and the next one's.
    if (plans.size > 2) plans.clear()
    plans.set(epoch, plan)
    return plan
  }
  return {
    report,
    hash,
    batchesIn: (epoch) => planOf(epoch).length,
    async *epoch(epoch, { from = 0 } = {}) {
      for (const places of planOf(epoch).slice(from)) {
        const rows = await Promise.all(Array.from(places, (place) => store.read(place)))
        const batch = form === 'packed' ? packRows(rows) : padRows(rows, padId)
        yield { ...batch, ...countsOf(rows), rowNames: Array.from(places, originOf) }
      }
    },
  }
}

function countsOf(rows: readonly RowTokens[]): { count: number; tokens: number } {
  let count = 0
  let tokens = 0
  for (const { inputIds, labels, weight } of rows) {
    tokens += inputIds.length
    for (let t = 0; t < labels.length; t++) if (isPredicted(labels, t, 0)) count += weight
  }
  return { count, tokens }
}

/** Places in the store of each batch. */
function batchesOf(
  order: Uint32Array,
  { store }: Dataset,
  { batchSize = 8, batchTokens }: BatchOptions,
): Uint32Array[] {
  const plan: Uint32Array[] = []
  let from = 0
  let tokens = 0
  for (let i = 0; i < order.length; i++) {
    const length = store.tokensOf(order[i]!)
    const full =
      batchTokens === undefined ? i - from === batchSize : i > from && tokens + length > batchTokens
    if (full) {
      plan.push(order.subarray(from, i))
      from = i
      tokens = 0
    }
    tokens += length
  }
  if (order.length > from) plan.push(order.subarray(from))
  return plan
}

/** Places in the store of the rows of an epoch. */
function orderOf({ parts }: Dataset, epoch: number, { shuffle = true, seed = 0 }: BatchOptions): Uint32Array {
  // Each epoch takes the next range of an endless sequence of passes over a source.
  const ranges = parts.map(({ rows: { length }, weight }) => {
    const from = Math.round(length * weight * epoch)
    return { from, to: Math.max(Math.round(length * weight * (epoch + 1)), from + 1) }
  })
  const rows = new Uint32Array(ranges.reduce((sum, { from, to }) => sum + to - from, 0))
  let filled = 0
  for (const [i, part] of parts.entries()) {
    const size = part.rows.length
    const { from, to } = ranges[i]!
    let pass = -1
    let order: Uint32Array | null = null
    for (let at = from; at < to; at++) {
      const current = Math.floor(at / size)
      if (current !== pass) {
        pass = current
        order = shuffle ? permutation(size, seed, STREAM.source + i * 100_003 + pass) : null
      }
      rows[filled++] = part.rows[order === null ? at % size : order[at % size]!]!
    }
  }
  if (!shuffle) return rows
  return permutation(rows.length, seed, STREAM.order + epoch).map((i) => rows[i]!)
}
