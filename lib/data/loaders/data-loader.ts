import { is, needArgument, needOptions } from '../../arguments.js'
import { PosttrainError } from '../../errors.js'
import { isRows } from '../../options/kinds.js'
import { type Dataset, defaultDatasetOptions, loadDataset } from '../dataset.js'
import type { DataReport } from '../encode/report.js'
import type { DataSource } from '../sources.js'
import { Template, type TrainOn } from '../text/template.js'
import { chooseTemplate } from '../text/templates.js'
import { Tokenizer } from '../text/tokenizer.js'
import type { Loader } from './loader.js'
import { type BatchOptions, checkBatching, type LoaderBatch, rowLoader } from './rows.js'

/** Options of a `DataLoader`. */
export interface DataLoaderOptions extends BatchOptions {
  /** The model's tokenizer. Required. */
  tokenizer: Tokenizer
  /**
   * Template that renders rows to text, string prompts as a user turn; `'none'` takes string prompts raw. Default: the
   * tokenizer's chat template; without one, the plain template for conversations, and string prompts raw.
   */
  template?: Template | 'none'
  /**
   * Whether texts, string prompts and completions are rendered already: no turn is put around them, and marks of special
   * tokens in them are special tokens. Defaults to `false`.
   */
  rendered?: boolean
  /** Maximum length of a sequence, in tokens. An integer of at least 2. Defaults to `1024`. */
  maxLength?: number
  /** Turns whose tokens are trained. Defaults to `'assistant'`. */
  trainOn?: TrainOn
  /** What to do with a row longer than maxLength. Defaults to `'truncate'`. */
  overflow?: 'truncate' | 'drop' | 'error'
  /** Whether a row that cannot be read or lacks fields is an error, or skipped and counted. Defaults to `'error'`. */
  onBadRow?: 'error' | 'skip'
}

/**
 * Batches of rows, which are read and encoded at first use. The order of epoch e depends on the seed and e alone, so
 * training can resume in the middle of an epoch without replaying it.
 *
 * ```ts
 * const loader = new DataLoader(rows, { tokenizer: model.tokenizer, maxLength: 128, batchSize: 2 })
 * for await (const batch of loader.epoch(0)) await model.backward(batch, { kind: 'crossEntropy' })
 * ```
 */
export class DataLoader implements Loader<LoaderBatch> {
  readonly #source: DataSource
  readonly #options: DataLoaderOptions
  #opening: Promise<Dataset> | null = null
  #dataset: Dataset | null = null
  #loader: Loader<LoaderBatch> | null = null

  constructor(source: DataSource, options: DataLoaderOptions) {
    needArgument('DataLoader', 'the rows', source, {
      test: isRows,
      expected: 'a path, a list of rows, an async iterable of rows, or a list of { data, weight }',
    })
    needOptions('DataLoader', options, {
      template: is.or(is.a(Template, 'a Template'), is.oneOf('none')),
      rendered: is.flag,
      maxLength: is.atLeast(2),
      trainOn: is.oneOf('assistant', 'lastAssistant', 'all'),
      overflow: is.oneOf('truncate', 'drop', 'error'),
      onBadRow: is.oneOf('error', 'skip'),
    })
    needArgument('DataLoader', 'option tokenizer', options.tokenizer, is.a(Tokenizer, 'a Tokenizer'))
    checkBatching(options)
    this.#source = source
    this.#options = { ...options }
  }

  /** Reads and encodes the rows, as epoch() does at first use. */
  async ready(): Promise<this> {
    this.#opening ??= this.#open()
    const dataset = await this.#opening
    const { tokenizer } = this.#options
    this.#dataset = dataset
    this.#loader ??= rowLoader(dataset, {
      ...this.#options,
      padId: tokenizer.padId ?? tokenizer.eosId ?? 0,
    })
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
    return this.#ready().batchesIn(epoch)
  }

  /** Yields the batches of an epoch, from batch `from` on. */
  async *epoch(epoch: number, options: { from?: number } = {}): AsyncGenerator<LoaderBatch, void> {
    needArgument('epoch', 'the epoch', epoch, is.count)
    needOptions('epoch', options, { from: is.count })
    await this.ready()
    yield* this.#ready().epoch(epoch, options)
  }

  async close(): Promise<void> {
    await this.#dataset?.store.close()
  }

  async #open(): Promise<Dataset> {
    const { tokenizer, maxLength, trainOn, overflow, onBadRow, rendered } = this.#options
    const { template, strings } = await chooseTemplate(this.#options.template, tokenizer)
    const given = { template, strings, rendered, maxLength, trainOn, overflow, onBadRow }
    const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
    return (await loadDataset(this.#source, { ...defaultDatasetOptions(tokenizer), ...set })).train
  }

  #ready(): Loader<LoaderBatch> {
    if (this.#loader !== null) return this.#loader
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      'the data set is not loaded yet: await loader.ready() first',
    )
  }
}
