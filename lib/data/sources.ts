import type { Stats } from 'node:fs'
import { open, rename, stat } from 'node:fs/promises'
import { shown } from '../arguments.js'
import { AbortError, PosttrainError } from '../errors.js'
import { isHubFile } from '../files/hub/id.js'
import { isRows } from '../options/kinds.js'
import type { Documents, ReadOptions, SourceRow } from './formats/format.js'
import { formatOf } from './formats/index.js'
import { text } from './formats/text.js'
import type { PreferenceRow, RankingRow } from './rows/preference-rows.js'
import type { PromptOnlyRow } from './rows/prompt-rows.js'
import type { Row } from './rows/rows.js'
import type { UnpairedRow } from './rows/unpaired-rows.js'

/** A row of any kind. */
export type AnyRow = Row | PreferenceRow | RankingRow | UnpairedRow | PromptOnlyRow | { instruction: string }

/** Rows: the path of a data file or its address on the Hub (hf://datasets/org/name/file.jsonl), a list, or an async iterable. */
export type RowSource = string | readonly AnyRow[] | AsyncIterable<AnyRow>

/** One source, or several: each adds `weight` times its rows to every epoch; 0.2 takes another fifth each time. */
export type DataSource = RowSource | readonly WeightedSource[]

export interface WeightedSource {
  data: RowSource
  weight: number
}

/**
 * Rows with a prompt: as DataSource, but a row may be any object. `Row` is inferred from the rows of a list or an
 * iterable.
 */
export type PromptSource<Row = Record<string, unknown>> =
  | DataSource
  | readonly Row[]
  | AsyncIterable<Row>
  | readonly object[]
  | AsyncIterable<object>

/** Row type of an item of a PromptSource: the item itself, or the rows of a weighted source. */
export type RowOf<Item> = Item extends { data: infer Source; weight: number }
  ? Source extends readonly (infer Row)[] | AsyncIterable<infer Row>
    ? Row
    : Record<string, unknown>
  : Item

/** Rows for the validation loss: a fraction of the data, or a separate source. */
export type Validation =
  | {
      /** Fraction of the data held out from training for validation. In (0, 1). Required. */
      fraction: number
    }
  | RowSource

function isWeighted(item: unknown): item is WeightedSource {
  if (typeof item !== 'object' || item === null || !('data' in item) || !('weight' in item)) return false
  return isRows(item.data)
}

/** Lists the sources of a DataSource with their weights. */
export function sourcesOf(source: DataSource): WeightedSource[] {
  if (Array.isArray(source) && source.length > 0 && Array.from(source as unknown[]).every(isWeighted)) {
    for (const { weight } of source as WeightedSource[]) {
      if (!(typeof weight === 'number' && weight > 0 && Number.isFinite(weight))) {
        throw new PosttrainError(
          'ERR_INVALID_ARGUMENT',
          `the weight of a data source must be above 0, got ${shown(weight)}`,
        )
      }
    }
    return [...(source as WeightedSource[])]
  }
  return [{ data: source as RowSource, weight: 1 }]
}

/** Lists the sources of data without weights; ERR_INVALID_ARGUMENT for a weight other than 1. */
export function unweighted(source: DataSource, claim: string): RowSource[] {
  return sourcesOf(source).map(({ data, weight }) => {
    if (weight === 1) return data
    throw new PosttrainError('ERR_INVALID_ARGUMENT', `${claim}, got ${weight}: leave it out`)
  })
}

/** Throws ERR_INVALID_ARGUMENT where `documents` is given and no source is a text file. */
export function checkDocuments(
  documents: Documents | undefined,
  source: DataSource,
  validation?: Validation,
): void {
  const isText = (data: unknown) => typeof data === 'string' && formatOf(data) === text
  if (documents === undefined || isText(validation) || sourcesOf(source).some(({ data }) => isText(data)))
    return
  throw new PosttrainError('ERR_INVALID_ARGUMENT', 'documents has an effect on .txt files only: leave it out')
}

/**
 * Throws ERR_INVALID_ARGUMENT where an iterable returns no iterator, or its iterator no results, and an AbortError also
 * while it is waited for; passes on its own errors.
 */
function iterated(
  source: Exclude<RowSource, string>,
  signal: AbortSignal | undefined,
): AsyncIterable<unknown> | Iterable<unknown> {
  if (!(Symbol.asyncIterator in source)) return source
  const need = <Value>(value: Value, test: (value: object) => boolean, what: string): Value => {
    if (typeof value === 'object' && value !== null && test(value)) return value
    throw new PosttrainError('ERR_INVALID_ARGUMENT', `the rows ${what}, got ${shown(value)}`)
  }
  return {
    [Symbol.asyncIterator]() {
      const hasNext = (value: object) => typeof Reflect.get(value, 'next') === 'function'
      const rows = need(
        source[Symbol.asyncIterator](),
        hasNext,
        'must have an asyncIterator method that returns an iterator',
      )
      return {
        next: async () =>
          need(
            await unlessAborted(async () => await rows.next(), signal).catch((error) => {
              // Nobody returns an iterator whose next() failed, and this one did not fail.
              if (signal?.aborted) void close(rows)
              throw error
            }),
            () => true,
            'have an iterator whose next() must return { value, done }',
          ),
        return: async (value) => (await rows.return?.(value)) ?? { done: true, value },
      }
    },
  }
}

/** Lets an iterator clean up; nothing waits for it, nor hears of its failure. */
async function close(rows: AsyncIterator<unknown>): Promise<void> {
  try {
    await rows.return?.()
  } catch {}
}

/** What a function resolves to, or an AbortError as soon as the signal is aborted. */
async function unlessAborted<Value>(
  task: () => Promise<Value>,
  signal: AbortSignal | undefined,
): Promise<Value> {
  if (signal === undefined) return await task()
  let onAbort: (() => void) | undefined
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(new AbortError(signal.reason))
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([aborted, task()])
  } finally {
    signal.removeEventListener('abort', onAbort!)
  }
}

/** Reads the rows of a source in order, unchecked; memory does not grow with a file. */
export async function* readRows(source: RowSource, options: ReadOptions = {}): AsyncGenerator<SourceRow> {
  if (typeof source !== 'string') {
    let line = 0
    for await (const row of iterated(source, options.signal))
      yield { row, origin: { source: 'rows', line: ++line } }
    return
  }
  await refuseFolder(source)
  const format = formatOf(source)
  const path = isHubFile(source) ? await (await import('../files/hub/snapshot.js')).hubFile(source) : source
  const before = await needFile(path)
  yield* format.read(path, options)
  const after = await stat(path).catch(() => null)
  // Of a file that is being written the rows would be some that were never together in it, or that another read lacks.
  if (after?.size !== before.size || after.mtimeMs !== before.mtimeMs)
    throw new PosttrainError(
      'ERR_DATA',
      `${path} was changed, replaced or removed while it was read: start again when nothing writes it, or pass a copy`,
    )
}

async function needFile(path: string): Promise<Stats> {
  const found = await stat(path).catch((cause: unknown) => {
    const pattern = /[*?]/.test(path) ? ': patterns are not expanded, so name each file' : ''
    throw new PosttrainError('ERR_DATA', `${path} does not exist or cannot be read${pattern}`, { cause })
  })
  if (!found.isFile()) throw new PosttrainError('ERR_DATA', `${path} is not a file`)
  return found
}

async function refuseFolder(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined)
  if (found?.isDirectory())
    throw new PosttrainError('ERR_DATA', `${path} is a folder: name the data files in it`)
}

/** Throws as reading would for files that are not there or have no known format, before a model is loaded for them. */
export async function needFiles(source: DataSource, validation?: Validation): Promise<void> {
  for (const data of [...sourcesOf(source).map(({ data }) => data), validation]) {
    if (typeof data !== 'string') continue
    await refuseFolder(data)
    formatOf(data)
    if (!isHubFile(data)) await needFile(data)
  }
}

/**
 * Writes rows into a .jsonl file, synced: a run's copy of an async iterable, which a resume reads. The file is complete
 * or absent.
 */
export async function spoolRows(
  source: AsyncIterable<AnyRow> | Iterable<AnyRow>,
  path: string,
): Promise<void> {
  const partial = `${path}.partial`
  const file = await open(partial, 'w')
  try {
    for await (const row of source) await file.write(`${JSON.stringify(row)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(partial, path)
}
