import { AbortError, PosttrainError } from '../errors.js'
import type { ReadOptions } from './formats/format.js'
import type { Origin } from './rows/fields.js'
import { type Columns, columnsOf } from './rows/names.js'
import { printedMessages } from './rows/printed.js'
import type { RowKind } from './rows/row-kind.js'
import { unreadColumns } from './rows/unread.js'
import { type RowSource, readRows } from './sources.js'

/** Reader, encoder and store for the rows of one kind. */
export interface Ingestion<Item, Encoded extends object> extends ReadOptions {
  onBadRow: 'error' | 'skip'
  /** Rows that are encoded at once. */
  slice: number
  /** Reads the columns of a row, which is `plain` in JavaScript's own values; throws ERR_DATA naming file, line and field. */
  read(columns: Columns, plain: unknown): Item
  /** Encodes the rows of a slice, in their order; returns the errors of bad rows instead of throwing them. */
  encode(items: readonly Item[]): Promise<readonly (Encoded | { error: string })[]>
  /** Adds an encoded row to the set. */
  keep(item: Item, encoded: Encoded, origin: Origin): void | Promise<void>
  /** Counts a skipped bad row. */
  skip(message: string): void
  /** Takes a sentence about a source for the report. */
  note?(sentence: string): void
  /** Kind of the rows, and what takes the columns of one that its reader does not look at. */
  unread?: { kind: RowKind; take(columns: readonly string[]): void }
}

/** Milliseconds between yields to the event loop. */
const TURN = 10

/** Reads, encodes and stores the rows of a source, in their order. Throws ERR_DATA for a bad row, or counts it. */
export async function ingest<Item, Encoded extends object>(
  source: RowSource,
  into: Ingestion<Item, Encoded>,
): Promise<void> {
  let slice: { item: Item; origin: Origin }[] = []
  const refuse = (error: unknown) => {
    if (!(error instanceof PosttrainError) || into.onBadRow === 'error') throw error
    into.skip(error.message)
  }
  const flush = async () => {
    if (slice.length === 0) return
    const results = await into.encode(slice.map(({ item }) => item))
    for (const [i, result] of results.entries()) {
      const { item, origin } = slice[i]!
      if (!('error' in result)) await into.keep(item, result, origin)
      else refuse(new PosttrainError('ERR_DATA', `${origin.source}:${origin.line}: ${result.error}`))
    }
    slice = []
  }
  // Once for a source: where one row is so, all are.
  let toldOfPrinted = false
  let since = performance.now()
  for await (const { row, exact, origin, failure, note } of readRows(source, into)) {
    if (into.signal?.aborted) throw new AbortError(into.signal.reason)
    if (performance.now() - since > TURN) {
      await new Promise((resolve) => setImmediate(resolve))
      since = performance.now()
    }
    if (note !== undefined) into.note?.(note)
    try {
      if (failure !== undefined) throw failure
      const columns = columnsOf(exact ?? row, origin)
      slice.push({ item: into.read(columns, row), origin })
      if (!toldOfPrinted && into.note !== undefined) {
        const sentence = printedMessages(columns.fields, columns.at)
        toldOfPrinted = sentence !== undefined
        if (sentence !== undefined) into.note(sentence)
      }
      if (into.unread !== undefined) into.unread.take(unreadColumns(columns, into.unread.kind))
    } catch (error) {
      refuse(error)
    }
    if (slice.length === into.slice) await flush()
  }
  await flush()
}
