import type { Example } from '../rows/rows.js'
import { type Digest, DigestSet } from './digests.js'
import type { Encoded } from './encode.js'
import { type Dropped, type EncodedRow, isPredicted } from './mask.js'
import type { TokenStore } from './token-store.js'

export interface Lengths {
  min: number
  median: number
  p90: number
  p99: number
  max: number
}

/** Histogram of row lengths, whose size does not grow with the rows. */
export class LengthCounts {
  readonly #counts = new Map<number, number>()
  #rows = 0

  add(length: number): void {
    this.#counts.set(length, (this.#counts.get(length) ?? 0) + 1)
    this.#rows++
  }

  percentiles(): Lengths {
    const lengths = [...this.#counts].sort(([a], [b]) => a - b)
    const at = (q: number): number => {
      let left = Math.min(this.#rows - 1, Math.floor(q * this.#rows))
      for (const [length, count] of lengths) {
        if (left < count) return length
        left -= count
      }
      return 0
    }
    return { min: at(0), median: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) }
  }
}

/** Counts of rows and tokens, and possible problems of the data, before the first step. */
export interface DataReport {
  /** Rows read, and those that remain. A long text is split into several. */
  read: number
  rows: number
  dropped: { badRow: number; tooLong: number; noLabels: number; empty: number }
  truncated: number
  tokens: number
  /** Tokens that are labels. */
  trainTokens: number
  /** Row lengths in tokens. */
  length: Lengths
  /** Rows equal to an earlier one: in every token, or except for case, punctuation and spaces. */
  duplicates: { exact: number; near: number }
  /** Rows that the validation data contain too. */
  sharedWithValidation: number
  emptyOutputs: number
  doubleBos: number
  /** Rows none of whose labels is a stop token. */
  withoutStop: number
  /** Rows that would get other ids if encoded as one text. */
  jointDiffers: number
  /** Error message of the first skipped bad row; null without any. */
  firstBadRow: string | null
  /** What files may have been meant to hold other than what was read, in a sentence each. */
  notes: string[]
}

/** Collects the report row by row. */
export class ReportBuilder {
  readonly #lengths = new LengthCounts()
  readonly #exact = new DigestSet()
  readonly #words = new DigestSet()
  /** Rows with a response, and those of them that train a stop token. */
  #responses = 0
  #stopping = 0
  readonly #report: DataReport = {
    read: 0,
    rows: 0,
    dropped: { badRow: 0, tooLong: 0, noLabels: 0, empty: 0 },
    truncated: 0,
    tokens: 0,
    trainTokens: 0,
    length: { min: 0, median: 0, p90: 0, p99: 0, max: 0 },
    duplicates: { exact: 0, near: 0 },
    sharedWithValidation: 0,
    emptyOutputs: 0,
    doubleBos: 0,
    withoutStop: 0,
    jointDiffers: 0,
    firstBadRow: null,
    notes: [],
  }

  badRow(message: string): void {
    this.#report.read++
    this.#report.dropped.badRow++
    this.#report.firstBadRow ??= message
  }

  note(sentence: string): void {
    this.#report.notes.push(sentence)
  }

  /** Counts an example whose rows are in the store, from `first` on. */
  example(kind: Example['kind'], encoded: Encoded, store: TokenStore, first: number): void {
    this.#report.read++
    const ids: Digest[] = []
    for (const row of encoded.rows) {
      if (typeof row === 'string') {
        this.drop(row)
        continue
      }
      this.kept(row, kind)
      ids.push(store.digestOf(first + ids.length))
    }
    this.content(ids, encoded.words)
  }

  /** Counts a read row whose responses are reported one by one. */
  read(): void {
    this.#report.read++
  }

  /** Counts a dropped row. */
  drop(reason: Dropped): void {
    this.#report.dropped[reason]++
  }

  /** Counts a kept row. */
  kept(row: EncodedRow, kind: Example['kind']): void {
    const report = this.#report
    const { length } = row.inputIds
    this.#lengths.add(length)
    report.rows++
    report.tokens += length
    for (let t = 0; t < length; t++) report.trainTokens += Number(isPredicted(row.labels, t, 0))
    report.truncated += Number(row.truncated)
    report.emptyOutputs += Number(row.emptyOutput)
    report.doubleBos += Number(row.doubleBos)
    report.jointDiffers += Number(row.jointDiffers)
    report.withoutStop += Number(!row.stops)
    if (kind === 'text') return
    this.#responses++
    this.#stopping += Number(row.stops)
  }

  /** Counts duplicates, by the ids of the kept rows and the words of their example. */
  content(ids: readonly Digest[], words: Digest): void {
    let fresh = ids.length > 0
    for (const each of ids) {
      if (this.#exact.add(each)) continue
      this.#report.duplicates.exact++
      fresh = false
    }
    if (!this.#words.add(words) && fresh) this.#report.duplicates.near++
  }

  /** There are responses, but none trains a stop token. */
  get neverStops(): boolean {
    return this.#responses > 0 && this.#stopping === 0
  }

  finish(): DataReport {
    return { ...this.#report, length: this.#lengths.percentiles() }
  }
}

/** Counts the `rows` of a store that are, token for token, among `others` of another (or the same) store. */
export function sharedRows(
  rows: { store: TokenStore; parts: readonly { rows: Uint32Array }[] },
  others: { store: TokenStore; parts: readonly { rows: Uint32Array }[] },
): number {
  const known = new DigestSet()
  for (const part of others.parts) for (const row of part.rows) known.add(others.store.digestOf(row))
  let shared = 0
  for (const part of rows.parts)
    for (const row of part.rows) shared += Number(known.has(rows.store.digestOf(row)))
  return shared
}
