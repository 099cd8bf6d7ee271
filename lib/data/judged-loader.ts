import type { PackedBatch } from '../addon/addon.js'
import { STREAM } from './dataset.js'
import type { JudgedReport, JudgedSet, Judgement } from './judged.js'
import { packRows, type RowTokens } from './pack.js'
import { permutation } from './random.js'

interface JudgedBatch extends PackedBatch {
  labels: Int32Array
  /** Pairs, or single answers: what the loss divides by. */
  count: number
  /** Tokens of all forwards. */
  tokens: number
  rowNames: string[]
  /** Place of each document among all answers of the run. */
  places: Int32Array
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
  /** Each prompt with the answer to the next one of the batch, for KTO's estimate of the KL. */
  mismatched: PackedBatch & { labels: Int32Array }
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
  readonly #batchOf: (groups: Groups) => Batch

  constructor(set: JudgedSet, options: JudgedLoaderOptions, batchOf: (groups: Groups) => Batch) {
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
      yield this.#batchOf(await Promise.all(chosen.map(read)))
    }
  }
}

function packed(groups: Groups, firstPlace: number) {
  const rows = groups.flatMap((group) => group.rows)
  const batch = packRows(rows)
  return {
    inputIds: batch.inputIds,
    offsets: batch.offsets,
    labels: batch.labels!,
    tokens: batch.inputIds.length,
    rowNames: groups.map(({ judgement }) => judgement.origin),
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
  return new JudgedLoader(set, options, (groups) => {
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
      ...packed(groups, set.firstPlace),
      pairs: Int32Array.from(pairs),
      margins: Float64Array.from(margins),
      pairWeights: Float64Array.from(weights),
      count: weights.reduce((sum, weight) => sum + weight, 0),
    }
  })
}

/** Batches of single answers; `maxLength` bounds mismatched prompts and answers, whose ends are cut. */
export function unpairedLoader(
  set: JudgedSet,
  options: JudgedLoaderOptions & { maxLength: number },
): JudgedLoader<UnpairedBatch> {
  return new JudgedLoader(set, options, (groups) => {
    const rows = groups.map((group) => group.rows[0]!)
    const mismatched = packRows(
      rows.map((row, i) => exchanged(row, rows[(i + 1) % rows.length]!, options.maxLength)),
    )
    const batch = packed(groups, set.firstPlace)
    return {
      ...batch,
      tokens: batch.tokens + mismatched.inputIds.length,
      count: rows.length,
      desirable: Uint8Array.from(groups, ({ judgement }) => Number(judgement.desirable)),
      mismatched: { ...mismatched, labels: mismatched.labels! },
    }
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
  const labels = inputIds.slice().fill(-100, 0, prompt.length)
  return { inputIds, labels, weight: 1 }
}
