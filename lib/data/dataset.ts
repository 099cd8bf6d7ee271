import { createHash } from 'node:crypto'
import { PosttrainError } from '../errors.js'
import { NumberList } from './encode/digests.js'
import { type Encoded, RowEncoder, rowsIn } from './encode/encode.js'
import { type EncodeOptions, stopIdsOf } from './encode/mask.js'
import { type DataReport, ReportBuilder } from './encode/report.js'
import { sharedRows } from './encode/shared-rows.js'
import { TokenStore } from './encode/token-store.js'
import type { Documents } from './formats/format.js'
import { ingest } from './ingest.js'
import { type Example, exampleIn } from './rows/rows.js'
import type { StringForm } from './rows/string-rows.js'
import { checkDocuments, type DataSource, type RowSource, sourcesOf, type Validation } from './sources.js'
import type { Template } from './text/template.js'
import { plainTemplate } from './text/templates.js'
import type { Tokenizer } from './text/tokenizer.js'
import { heldOut, type Split, withValidation } from './validation.js'

/** Rows of one source: places in the store, and how many times its rows an epoch has. */
export interface Part {
  rows: Uint32Array
  weight: number
}

/** Encoded rows with their origins. Several data sets can share one store. */
export interface Dataset {
  store: TokenStore
  parts: Part[]
  report: DataReport
  /** Whether rows were rendered by the template. */
  templated: boolean
  /** Depends on all ids, masks and weights, and on the choice of rows. */
  hash: string
  /** Origin of a row of the store: `file:line`. */
  originOf(index: number): string
}

export interface DatasetOptions extends EncodeOptions, StringForm {
  tokenizer: Tokenizer
  template: Template
  onBadRow: 'error' | 'skip'
  documents?: Documents | undefined
  validation?: Validation | undefined
  /** Seed of the choice of validation rows. */
  seed: number
  signal?: AbortSignal | undefined
  /** Refuse a data set in which no row trains a stop token; off for plain text. */
  needsStop: boolean
}

/** Rows that are encoded at once. */
const SLICE = 32
/** Maximum rows of an epoch: their order takes four bytes of memory each. */
const MAX_EPOCH_ROWS = 2 ** 28

/** Rows of one source: places in the store, and their lines in the file. */
interface LoadedSource {
  name: string
  first: number
  count: number
  weight: number
  lines: NumberList
}

interface Loaded {
  store: TokenStore
  sources: LoadedSource[]
  builder: ReportBuilder
}

async function loadSources(source: DataSource, options: DatasetOptions): Promise<Loaded> {
  const encoder = new RowEncoder(options.tokenizer, options.template, {
    maxLength: options.maxLength,
    trainOn: options.trainOn,
    overflow: options.overflow,
    reasoning: options.reasoning,
    strings: options.strings,
    rendered: options.rendered,
  })
  const loaded: Loaded = { store: new TokenStore(), sources: [], builder: new ReportBuilder() }
  let epoch = 0
  try {
    for (const { data, weight } of sourcesOf(source)) {
      const first = loaded.store.length
      const lines = await loadSource(data, encoder, loaded, options)
      const count = loaded.store.length - first
      const name = typeof data === 'string' ? data : 'rows'
      loaded.sources.push({ name, first, count, weight, lines })
      if (count === 0) throw nothingToTrain(name, loaded.builder.dropped)
      epoch += count * weight
      if (epoch > MAX_EPOCH_ROWS) throw tooManyRows(name, weight)
    }
    return loaded
  } catch (error) {
    await loaded.store.close()
    throw error
  } finally {
    await encoder.close()
  }
}

/** Encodes the rows of a source into the store and returns their lines in the file. */
async function loadSource(
  source: RowSource,
  encoder: RowEncoder,
  { store, builder }: Loaded,
  options: DatasetOptions,
): Promise<NumberList> {
  const lines = new NumberList()
  await ingest<Example, Encoded>(source, {
    onBadRow: options.onBadRow,
    signal: options.signal,
    slice: SLICE,
    read: exampleIn,
    encode: (examples) => encoder.encode(examples),
    documents: options.documents,
    skip: (message) => builder.badRow(message),
    note: (sentence) => builder.note(sentence),
    unread: { kind: 'sft', take: (columns) => builder.unread(columns) },
    async keep(example, encoded, { line }) {
      for (const row of rowsIn(encoded, options.maxLength)) {
        if (typeof row === 'string') continue
        await store.append(row)
        lines.push(line)
      }
      builder.example(example.kind, encoded, options.maxLength)
    },
  })
  return lines
}

/** Error for data with responses none of which trains a stop token. */
export function neverStops({
  tokenizer,
  template,
}: Pick<DatasetOptions, 'tokenizer' | 'template'>): PosttrainError {
  const expected = stopIdsOf(tokenizer, template).map((id) => tokenizer.idToToken(id))
  return new PosttrainError(
    'ERR_DATA',
    expected.length === 0
      ? 'no row trains a stop token, so the model would never learn to end a response: name an eos_token in tokenizer_config.json, or use a template whose turns end in a special token'
      : `no row trains a stop token, so the model would never learn to end a response: expected ${expected.join(' or ')} at the end of each response (is maxLength too small?)`,
  )
}

function tooManyRows(source: string, weight: number): PosttrainError {
  return new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `an epoch has at most ${MAX_EPOCH_ROWS} rows, more than which the weight ${weight} of ${source} makes: lower the weight`,
  )
}

function nothingToTrain(source: string, report: Pick<DataReport, 'read' | 'dropped'>): PosttrainError {
  if (report.read === 0) return new PosttrainError('ERR_DATA', `${source} has no rows`)
  const { badRow, tooLong, noLabels, empty } = report.dropped
  return new PosttrainError(
    'ERR_DATA',
    `${source}: no usable rows: of ${report.read}, ${badRow} are bad, ${tooLong} too long, ${noLabels} without a label and ${empty} empty`,
  )
}

/** A set of the rows in `parts`. Rows that were dropped belong to the training rows. */
async function dataset(
  { store, sources, builder }: Loaded,
  parts: Part[],
  options: DatasetOptions,
  { dropped = true, shared = 0 } = {},
): Promise<Dataset> {
  const { tokenizer } = options
  const held = new Uint8Array(store.length)
  for (const { rows } of parts) for (const row of rows) held[row] = 1
  const holds = (row: number) => held[row] === 1
  const report = await builder.report({ store, tokenizer, holds, dropped })
  return {
    store,
    parts,
    report: { ...report, sharedWithValidation: shared },
    templated: builder.templated,
    hash: hashOf(store, parts),
    originOf(index) {
      const { name, first, lines } = sources.findLast((source) => index >= source.first)!
      return `${name}:${lines.at(index - first)}`
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

const placesOf = ({ first, count }: LoadedSource) => Uint32Array.from({ length: count }, (_, i) => first + i)

const wholeParts = ({ sources }: Loaded): Part[] =>
  sources.map((source) => ({ rows: placesOf(source), weight: source.weight }))

/** The validation loss counts each row once: source weights apply to training only. */
const validationParts = ({ sources }: Loaded): Part[] =>
  sources.map((source) => ({ rows: placesOf(source), weight: 1 }))

/**
 * Reads, checks and encodes rows, once. Throws ERR_DATA with file, line and field for a bad row (`onBadRow: 'skip'`
 * counts it instead), and for data without usable rows or without a trained stop token.
 */
export async function loadDataset(source: DataSource, options: DatasetOptions): Promise<Split<Dataset>> {
  checkDocuments(options.documents, source, options.validation)
  const loaded = await loadSources(source, options)
  if (options.needsStop && loaded.builder.neverStops) {
    await loaded.store.close()
    throw neverStops(options)
  }
  return await withValidation<Loaded, Dataset>(loaded, options.validation, {
    alone: async (whole) => await dataset(whole, wholeParts(whole), options),
    split: async (whole, fraction) => await split(whole, fraction, options),
    load: (other) => loadSources(other, options),
    async beside(whole, other) {
      const [parts, otherParts] = [wholeParts(whole), validationParts(other)]
      const shared = sharedRows({ ...whole, parts }, { ...other, parts: otherParts })
      return {
        train: await dataset(whole, parts, options, { shared }),
        validation: await dataset(other, otherParts, options),
      }
    },
  })
}

/** Holds out a fraction of all rows, chosen by the seed, for validation. */
async function split(loaded: Loaded, fraction: number, options: DatasetOptions): Promise<Split<Dataset>> {
  const { store, sources } = loaded
  const held = heldOut(store.length, fraction, options.seed)
  const parts = sources.map((source) => ({
    rows: placesOf(source).filter((row) => !held.has(row)),
    weight: source.weight,
  }))
  const empty = parts.findIndex(({ rows }) => rows.length === 0)
  if (empty >= 0) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `the validation fraction takes every row of ${sources[empty]!.name}`,
    )
  }
  const validation = [{ rows: Uint32Array.from(held).sort(), weight: 1 }]
  const shared = sharedRows({ store, parts }, { store, parts: validation })
  return {
    train: await dataset(loaded, parts, options, { shared }),
    validation: await dataset(loaded, validation, options, { dropped: false }),
  }
}

/** Default options of a data set outside of recipes, for rows with responses. */
export function defaultDatasetOptions(tokenizer: Tokenizer): DatasetOptions {
  return {
    tokenizer,
    template: plainTemplate,
    strings: 'raw',
    rendered: false,
    maxLength: 1024,
    trainOn: 'assistant',
    overflow: 'truncate',
    onBadRow: 'error',
    seed: 0,
    needsStop: true,
  }
}
