import { createHash } from 'node:crypto'
import { AbortError, PosttrainError } from '../errors.js'
import { permutation, STREAM } from '../random.js'
import { NumberList } from './encode/digests.js'
import { RowEncoder } from './encode/encode.js'
import { type EncodeOptions, stopIdsOf } from './encode/mask.js'
import { type DataReport, ReportBuilder, sharedRows } from './encode/report.js'
import { TokenStore } from './encode/token-store.js'
import { type DataSource, type RowSource, readRows, sourcesOf, type Validation } from './formats/read.js'
import { type Example, type Origin, readRow } from './rows/rows.js'
import type { Template } from './text/template.js'
import { plainTemplate } from './text/templates.js'
import type { Tokenizer } from './text/tokenizer.js'

/** Rows of one source that an epoch draws from: places in the store, and how often an epoch has them. */
export interface Part {
  rows: Uint32Array
  weight: number
}

/** Encoded rows and where they came from. Several datasets may look at one store. */
export interface Dataset {
  store: TokenStore
  parts: Part[]
  report: DataReport
  /** Changes with every id, mask, weight and with which rows are meant. */
  hash: string
  /** Where a row of the store came from: `file:line`. */
  originOf(index: number): string
}

export interface DatasetOptions extends EncodeOptions {
  tokenizer: Tokenizer
  template: Template
  onBadRow: 'error' | 'skip'
  validation?: Validation | undefined
  /** Decides which rows a validation fraction takes. */
  seed: number
  signal?: AbortSignal | undefined
  /** Refuse a data set in which no row trains a stop token; off for plain text. */
  needsStop: boolean
}

/** Rows handed to the encoder at once. */
const SLICE = 32

interface Loaded {
  store: TokenStore
  sources: { first: number; count: number; weight: number }[]
  /** Where the rows of each source came from. */
  origins: { source: string; lines: NumberList }[]
  builder: ReportBuilder
}

async function loadSources(source: DataSource, options: DatasetOptions): Promise<Loaded> {
  const encoder = new RowEncoder(options.tokenizer, options.template, {
    maxLength: options.maxLength,
    trainOn: options.trainOn,
    overflow: options.overflow,
  })
  const loaded: Loaded = { store: new TokenStore(), sources: [], origins: [], builder: new ReportBuilder() }
  try {
    for (const { data, weight } of sourcesOf(source)) {
      const first = loaded.store.length
      const origins = { source: typeof data === 'string' ? data : 'rows', lines: new NumberList() }
      loaded.origins.push(origins)
      await loadSource(data, encoder, loaded, origins.lines, options)
      const count = loaded.store.length - first
      loaded.sources.push({ first, count, weight })
      if (count === 0) throw nothingToTrain(origins.source, loaded.builder.finish())
    }
    return loaded
  } catch (error) {
    await loaded.store.close()
    throw error
  } finally {
    await encoder.close()
  }
}

async function loadSource(
  source: RowSource,
  encoder: RowEncoder,
  loaded: Loaded,
  lines: NumberList,
  options: DatasetOptions,
): Promise<void> {
  let slice: { example: Example; origin: Origin }[] = []
  const refuse = (failure: PosttrainError) => {
    if (options.onBadRow === 'error') throw failure
    loaded.builder.badRow(failure.message)
  }
  const flush = async () => {
    const results = await encoder.encode(slice.map(({ example }) => example))
    for (const [i, result] of results.entries()) {
      const { example, origin } = slice[i]!
      if ('error' in result) {
        refuse(new PosttrainError('ERR_DATA', `${origin.source}:${origin.line}: ${result.error}`))
        continue
      }
      const first = loaded.store.length
      for (const row of result.rows) {
        if (typeof row === 'string') continue
        await loaded.store.append(row)
        lines.push(origin.line)
      }
      loaded.builder.example(example.kind, result, loaded.store, first)
    }
    slice = []
  }
  for await (const { row, origin, failure } of readRows(source)) {
    if (options.signal?.aborted) throw new AbortError(options.signal.reason)
    if (failure !== undefined) {
      refuse(failure)
      continue
    }
    try {
      slice.push({ example: readRow(row, origin), origin })
    } catch (error) {
      if (!(error instanceof PosttrainError)) throw error
      refuse(error)
    }
    if (slice.length === SLICE) await flush()
  }
  await flush()
}

/** The error of data with answers none of which would teach the model to end one. */
export function neverStops({
  tokenizer,
  template,
}: Pick<DatasetOptions, 'tokenizer' | 'template'>): PosttrainError {
  const expected = stopIdsOf(tokenizer, template).map((id) => tokenizer.idToToken(id))
  return new PosttrainError(
    'ERR_DATA',
    expected.length === 0
      ? 'no row trains a stop token, so the model would never learn to end an answer: name an eos_token in tokenizer_config.json, or take a template whose turns end in a special token'
      : `no row trains a stop token, so the model would never learn to end an answer: expected ${expected.join(' or ')} at the end of each answer (is maxLength too small?)`,
  )
}

function nothingToTrain(source: string, report: DataReport): PosttrainError {
  if (report.read === 0) return new PosttrainError('ERR_DATA', `${source} has no rows`)
  const { badRow, tooLong, noLabels, empty } = report.dropped
  return new PosttrainError(
    'ERR_DATA',
    `${source}: none of its ${report.read} rows can be trained (${badRow} bad, ${tooLong} too long, ${noLabels} without a label, ${empty} empty)`,
  )
}

function dataset(loaded: Loaded, parts: Part[], report: DataReport): Dataset {
  return {
    store: loaded.store,
    parts,
    report,
    hash: hashOf(loaded.store, parts),
    originOf(index) {
      let i = 0
      while (i + 1 < loaded.sources.length && index >= loaded.sources[i + 1]!.first) i++
      const { source, lines } = loaded.origins[i]!
      return `${source}:${lines.at(index - loaded.sources[i]!.first)}`
    },
  }
}

function hashOf(store: TokenStore, parts: Part[]): string {
  const hash = createHash('sha256').update(store.hash)
  for (const { rows, weight } of parts) {
    hash.update(`:${weight}:`).update(new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength))
  }
  return hash.digest('hex')
}

const range = (first: number, count: number) => Uint32Array.from({ length: count }, (_, i) => first + i)

/**
 * Reads, checks and encodes rows, once. Throws ERR_DATA with file, line and field for a bad row (or counts it, with
 * `onBadRow: 'skip'`), and for data in which nothing, or no stop token, can be trained.
 */
export async function loadDataset(
  source: DataSource,
  options: DatasetOptions,
): Promise<{ train: Dataset; validation: Dataset | null }> {
  const { validation } = options
  const loaded = await loadSources(source, options)
  try {
    const report = loaded.builder.finish()
    if (options.needsStop && loaded.builder.neverStops) throw neverStops(options)
    const whole = loaded.sources.map(({ first, count, weight }) => ({ rows: range(first, count), weight }))
    if (validation === undefined) return { train: dataset(loaded, whole, report), validation: null }
    if (typeof validation === 'object' && 'fraction' in validation)
      return split(loaded, report, validation.fraction, options)
    const other = await loadSources(validation, options)
    const otherParts = other.sources.map(({ first, count }) => ({ rows: range(first, count), weight: 1 }))
    const shared = sharedRows({ ...loaded, parts: whole }, { ...other, parts: otherParts })
    return {
      train: dataset(loaded, whole, { ...report, sharedWithValidation: shared }),
      validation: dataset(other, otherParts, other.builder.finish()),
    }
  } catch (error) {
    await loaded.store.close()
    throw error
  }
}

/** Takes a fraction of all rows, chosen by the seed, for validation. */
function split(loaded: Loaded, report: DataReport, fraction: number, options: DatasetOptions) {
  const total = loaded.store.length
  const count = Math.round(total * fraction)
  if (!(fraction > 0 && fraction < 1) || count === 0 || count === total) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `a validation fraction of ${fraction} of ${total} rows leaves nothing on one side`,
    )
  }
  const held = new Set(permutation(total, options.seed, STREAM.validation).subarray(0, count))
  const parts = loaded.sources.map(({ first, count: size, weight }) => ({
    rows: range(first, size).filter((row) => !held.has(row)),
    weight,
  }))
  const empty = parts.findIndex(({ rows }) => rows.length === 0)
  if (empty >= 0) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `the validation fraction takes every row of ${loaded.origins[empty]!.source}`,
    )
  }
  const validation = [{ rows: Uint32Array.from(held).sort(), weight: 1 }]
  const shared = sharedRows({ ...loaded, parts }, { ...loaded, parts: validation })
  const whole = { ...report, sharedWithValidation: shared }
  return { train: dataset(loaded, parts, whole), validation: dataset(loaded, validation, whole) }
}

/** Options of a data set of rows with answers that the textbook's loop gives. */
export function defaultDatasetOptions(tokenizer: Tokenizer): DatasetOptions {
  return {
    tokenizer,
    template: plainTemplate,
    maxLength: 1024,
    trainOn: 'assistant',
    overflow: 'truncate',
    onBadRow: 'error',
    seed: 0,
    needsStop: true,
  }
}
