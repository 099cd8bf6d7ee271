import { PosttrainError } from '../../errors.js'
import { permutation, STREAM } from '../../random.js'
import { type Dataset, defaultDatasetOptions, loadDataset } from '../dataset.js'
import type { DataReport } from '../encode/report.js'
import type { DataSource } from '../formats/read.js'
import type { Template, TrainOn } from '../text/template.js'
import type { Tokenizer } from '../text/tokenizer.js'
import { type Batch, packRows, padRows } from './pack.js'

/** A batch and what a recipe must know of it before it is run. */
export type LoaderBatch = Batch & {
  /** Sum of the label weights: what its loss divides by. The first token of a row is never predicted and does not count. */
  count: number
  /** Tokens, padding not counted. */
  tokens: number
  /** Where its rows came from: `file:line`. */
  rowNames: string[]
}

export interface BatchOptions {
  /** Rows of a batch; default 8. */
  batchSize?: number
  /** Tokens of a batch at most, instead of rows; a longer row is a batch alone. */
  batchTokens?: number
  /** Another order in every epoch, from the seed; default true. */
  shuffle?: boolean
  /** Default 0. */
  seed?: number
  /** 'packed' wastes nothing and is the default; 'padded' is the textbook's form. */
  form?: 'packed' | 'padded'
}

export interface DataLoaderOptions extends BatchOptions {
  tokenizer: Tokenizer
  /** Default: the plain template. */
  template?: Template
  /** Default 1024. */
  maxLength?: number
  /** Default 'assistant'. */
  trainOn?: TrainOn
  /** Default 'truncate'. */
  overflow?: 'truncate' | 'drop' | 'error'
  /** Default 'error'. */
  onBadRow?: 'error' | 'skip'
}

/**
 * Batches of encoded rows. The order of epoch e depends on the seed and e alone, so a training can go on in the middle
 * without replaying anything.
 *
 * ```ts
 * const loader = new DataLoader(rows, { tokenizer: model.tokenizer, maxLength: 128, batchSize: 2 })
 * for await (const batch of loader.epoch(0)) await model.backward(batch, { kind: 'crossEntropy' })
 * ```
 */
export class DataLoader {
  readonly #open: () => Promise<Dataset>
  readonly #batching: Required<Pick<BatchOptions, 'shuffle' | 'seed' | 'form'>> & BatchOptions
  readonly #padId: number
  #dataset: Dataset | null = null
  #opening: Promise<Dataset> | null = null
  readonly #plans = new Map<number, Uint32Array[]>()

  constructor(source: DataSource, options: DataLoaderOptions)
  constructor(dataset: { dataset: Dataset; padId: number }, options: BatchOptions)
  constructor(
    source: DataSource | { dataset: Dataset; padId: number },
    options: DataLoaderOptions | BatchOptions,
  ) {
    const { batchSize, batchTokens } = options
    for (const [name, value] of Object.entries({ batchSize, batchTokens })) {
      if (value !== undefined && !(Number.isInteger(value) && value > 0)) {
        throw new PosttrainError(
          'ERR_INVALID_ARGUMENT',
          `${name} must be a whole number above 0, got ${value}`,
        )
      }
    }
    if (batchSize !== undefined && batchTokens !== undefined) {
      throw new PosttrainError('ERR_INVALID_ARGUMENT', 'give batchSize or batchTokens, not both')
    }
    this.#batching = {
      ...options,
      shuffle: options.shuffle ?? true,
      seed: options.seed ?? 0,
      form: options.form ?? 'packed',
    }
    if (typeof source === 'object' && 'dataset' in source) {
      const { dataset, padId } = source
      this.#dataset = dataset
      this.#padId = padId
      this.#open = () => Promise.resolve(dataset)
      return
    }
    const own = options as DataLoaderOptions
    this.#padId = own.tokenizer.padId ?? own.tokenizer.eosId ?? 0
    this.#open = async () => {
      const defaults = defaultDatasetOptions(own.tokenizer)
      const { template, maxLength, trainOn, overflow, onBadRow } = own
      const given = { template, maxLength, trainOn, overflow, onBadRow }
      const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
      return (await loadDataset(source as DataSource, { ...defaults, ...set })).train
    }
  }

  /** Reads and encodes the rows; epoch() does so by itself. */
  async ready(): Promise<this> {
    this.#opening ??= this.#open()
    this.#dataset = await this.#opening
    return this
  }

  get report(): DataReport {
    return this.#ready().report
  }

  get hash(): string {
    return this.#ready().hash
  }

  /** Batches of the first epoch. */
  get batchesPerEpoch(): number {
    return this.batchesIn(0)
  }

  batchesIn(epoch: number): number {
    return this.#plan(epoch).length
  }

  /** The batches of an epoch, from batch `from` on. */
  async *epoch(epoch: number, options: { from?: number } = {}): AsyncGenerator<LoaderBatch, void> {
    await this.ready()
    const { store, originOf } = this.#ready()
    for (const places of this.#plan(epoch).slice(options.from ?? 0)) {
      const rows = await Promise.all(Array.from(places, (place) => store.read(place)))
      let count = 0
      let tokens = 0
      for (const { inputIds, labels, weight } of rows) {
        tokens += inputIds.length
        for (let t = 1; t < labels.length; t++) if (labels[t] !== -100) count += weight
      }
      const batch = this.#batching.form === 'packed' ? packRows(rows) : padRows(rows, this.#padId)
      yield { ...batch, count, tokens, rowNames: Array.from(places, originOf) }
    }
  }

  async close(): Promise<void> {
    await this.#dataset?.store.close()
  }

  #ready(): Dataset {
    if (this.#dataset !== null) return this.#dataset
    throw new PosttrainError('ERR_INVALID_ARGUMENT', 'the data are not read yet: await loader.ready() first')
  }

  /** Places in the store of each batch of an epoch. */
  #plan(epoch: number): Uint32Array[] {
    const known = this.#plans.get(epoch)
    if (known !== undefined) return known
    const { store } = this.#ready()
    const order = this.#order(epoch)
    const { batchSize = 8, batchTokens } = this.#batching
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
    // Two epochs are looked at when one ends and the next begins.
    if (this.#plans.size > 2) this.#plans.clear()
    this.#plans.set(epoch, plan)
    return plan
  }

  #order(epoch: number): Uint32Array {
    const { parts } = this.#ready()
    const { shuffle, seed } = this.#batching
    const rows: number[] = []
    for (const [i, part] of parts.entries()) {
      const size = part.rows.length
      // An endless row of passes over the source, of which each epoch takes the next stretch.
      const from = Math.round(size * part.weight * epoch)
      const to = Math.max(Math.round(size * part.weight * (epoch + 1)), from + 1)
      let pass = -1
      let order: Uint32Array | null = null
      for (let at = from; at < to; at++) {
        const current = Math.floor(at / size)
        if (current !== pass) {
          pass = current
          order = shuffle ? permutation(size, seed, STREAM.source + i * 100_003 + pass) : null
        }
        rows.push(part.rows[order === null ? at % size : order[at % size]!]!)
      }
    }
    if (!shuffle) return Uint32Array.from(rows)
    return permutation(rows.length, seed, STREAM.order + epoch).map((i) => rows[i]!)
  }
}
