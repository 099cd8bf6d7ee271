import type { PackedBatch } from '../../addon/addon.js'
import { permutation, STREAM } from '../../random.js'
import type { JudgedReport, JudgedSet, Judgement } from '../preferences.js'
import { packRows, type RowTokens } from './pack.js'

interface JudgedBatch extends PackedBatch {
  labels: Int32Array
  /** Pairs, or single answers: what the loss divides by. */
  count: number
  tokens: number
  rowNames: string[]
  /** Place of each document among all answers of the run. */
  places: Int32Array
  /** From 0. */
  epoch: number
}

/** Answers with the pairs among them. */
export interface PreferenceBatch extends JudgedBatch {
  /** Better and worse document of each pair, [2 P]. */
  pairs: Int32Array
  margins: Float64Array
  /** Add up to 1 for each prompt; `count` is their sum. */
  pairWeights: Float64Array
}

/** Single answers, each judged. */
export interface UnpairedBatch extends JudgedBatch {
  /** 1 for a good answer, [D]. */
  desirable: Uint8Array
}

export interface JudgedLoaderOptions {
  /** Prompts, with all their answers, in a batch. */
  batchSize: number
  shuffle: boolean
  seed: number
}

type Groups = { judgement: Judgement; rows: RowTokens[] }[]

/** Batches of judged answers. The order of an epoch depends on the seed and its number alone. */
export class JudgedLoader<Batch extends JudgedBatch> {
  readonly #set: JudgedSet
  readonly #options: JudgedLoaderOptions
  readonly #batchOf: (groups: Groups, epoch: number) => Batch

  constructor(
    set: JudgedSet,
    options: JudgedLoaderOptions,
    batchOf: (groups: Groups, epoch: number) => Batch,
  ) {
    this.#set = set
    this.#options = options
    this.#batchOf = batchOf
  }

  get report(): JudgedReport {
    return this.#set.report
  }

  get hash(): string {
    return this.#set.hash
  }

  batchesIn(_epoch: number): number {
    return Math.ceil(this.#set.judgements.length / this.#options.batchSize)
  }

  /** The batches of an epoch, from batch `from` on. */
  async *epoch(epoch: number, options: { from?: number } = {}): AsyncGenerator<Batch, void> {
    const { batchSize, shuffle, seed } = this.#options
    const { judgements, store } = this.#set
    const order = shuffle
      ? permutation(judgements.length, seed, STREAM.order + epoch)
      : Uint32Array.from(judgements.keys())
    const read = async (judgement: Judgement) => ({
      judgement,
      rows: await Promise.all(
        Array.from({ length: judgement.count }, (_, i) => store.read(judgement.first + i)),
      ),
    })
    for (let at = (options.from ?? 0) * batchSize; at < order.length; at += batchSize) {
      const chosen = Array.from(order.subarray(at, at + batchSize), (i) => judgements[i]!)
      yield this.#batchOf(await Promise.all(chosen.map(read)), epoch)
    }
  }
}

function packed(groups: Groups, firstPlace: number, epoch: number) {
  const rows = groups.flatMap((group) => group.rows)
  const batch = packRows(rows)
  return {
    inputIds: batch.inputIds,
    offsets: batch.offsets,
    labels: batch.labels!,
    tokens: batch.inputIds.length,
    rowNames: groups.map(({ judgement }) => judgement.origin),
    epoch,
    places: Int32Array.from(
      groups.flatMap(({ judgement }) =>
        Array.from({ length: judgement.count }, (_, i) => firstPlace + judgement.first + i),
      ),
    ),
  }
}

/** Batches of pairs: all those of a prompt are in one batch. */
export function preferenceLoader(
  set: JudgedSet,
  options: JudgedLoaderOptions,
): JudgedLoader<PreferenceBatch> {
  return new JudgedLoader(set, options, (groups, epoch) => {
    const pairs: number[] = []
    const margins: number[] = []
    const weights: number[] = []
    let first = 0
    for (const { judgement } of groups) {
      for (const { better, worse, margin, weight } of judgement.pairs) {
        pairs.push(first + better, first + worse)
        margins.push(margin)
        weights.push(weight)
      }
      first += judgement.count
    }
    return {
      ...packed(groups, set.firstPlace, epoch),
      pairs: Int32Array.from(pairs),
      margins: Float64Array.from(margins),
      pairWeights: Float64Array.from(weights),
      count: weights.reduce((sum, weight) => sum + weight, 0),
    }
  })
}

/** Batches of single answers. */
export function unpairedLoader(set: JudgedSet, options: JudgedLoaderOptions): JudgedLoader<UnpairedBatch> {
  return new JudgedLoader(set, options, (groups, epoch) => ({
    ...packed(groups, set.firstPlace, epoch),
    count: groups.length,
    desirable: Uint8Array.from(groups, ({ judgement }) => Number(judgement.desirable)),
  }))
}

/**
 * Each prompt with the answer to the next one, the last with that to the first, for KTO's estimate of the KL: over all
 * batches of a step, and packed as they are. `maxLength` bounds prompt and answer, whose end is cut. Empty where there
 * is only one answer.
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

/** The prompt of one row with the answer of another. */
function exchanged(asked: RowTokens, answered: RowTokens, maxLength: number): RowTokens {
  const start = (row: RowTokens) => row.labels.findIndex((label) => label !== -100)
  const prompt = asked.inputIds.subarray(0, start(asked))
  const answer = answered.inputIds
    .subarray(start(answered))
    .subarray(0, Math.max(1, maxLength - prompt.length))
  const inputIds = new Int32Array(prompt.length + answer.length)
  inputIds.set(prompt)
  inputIds.set(answer, prompt.length)
  const labels = new Int32Array(inputIds.length).fill(-100)
  labels.set(answered.labels.subarray(start(answered)).subarray(0, answer.length), prompt.length)
  return { inputIds, labels, weight: 1 }
}
