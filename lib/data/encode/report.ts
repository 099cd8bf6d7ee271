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

/** How many rows have each length; its size does not grow with the rows. */
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

/** What was read, what is trained, and what looks wrong, before the first step. */
export interface DataReport {
  /** Rows read, and those left after dropping. A long text gives several. */
  read: number
  rows: number
  dropped: { badRow: number; tooLong: number; noLabels: number; empty: number }
  truncated: number
  tokens: number
  /** Tokens that are labels. */
  trainTokens: number
  /** Tokens of a row. */
  length: Lengths
  /** Rows that are the same as an earlier one: in every token, or but for case, punctuation and spaces. */
  duplicates: { exact: number; near: number }
  /** Rows that the validation data have too. */
  sharedWithValidation: number
  emptyOutputs: number
  doubleBos: number
  /** Rows none of whose labels is a stop token. */
  withoutStop: number
  /** Rows that would get other ids if they were encoded as one text. */
  jointDiffers: number
  /** The first bad row that was skipped, as an error message; null where there was none. */
  firstBadRow: string | null
}

/** Gathers the report while rows come by. */
export class ReportBuilder {
  readonly #lengths = new LengthCounts()
  readonly #exact = new DigestSet()
  readonly #words = new DigestSet()
  /** Rows with an answer, and those of them that train a stop token. */
  #answers = 0
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
  }

  badRow(message: string): void {
    this.#report.read++
    this.#report.dropped.badRow++
    this.#report.firstBadRow ??= message
  }

  /** One example and what became of it; its rows stand in the store already, from `first` on. */
  example(kind: Example['kind'], encoded: Encoded, store: TokenStore, first: number): void {
    this.#report.read++
    const ids: Digest[] = []
    for (const row of encoded.rows) {
      if (typeof row === 'string') {
        this.left(row)
        continue
      }
      this.kept(row, kind)
      ids.push(store.digestOf(first + ids.length))
    }
    this.content(ids, encoded.words)
  }

  /** A row was read whose parts are told one by one. */
  read(): void {
    this.#report.read++
  }

  /** An encoded row that gives nothing to train on. */
  left(reason: Dropped): void {
    this.#report.dropped[reason]++
  }

  /** An encoded row that stays. */
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
    this.#answers++
    this.#stopping += Number(row.stops)
  }

  /** What was kept of an example, by its ids and by its words, to find what comes again. */
  content(ids: readonly Digest[], words: Digest): void {
    let fresh = ids.length > 0
    for (const each of ids) {
      if (this.#exact.add(each)) continue
      this.#report.duplicates.exact++
      fresh = false
    }
    if (!this.#words.add(words) && fresh) this.#report.duplicates.near++
  }

  /** There are answers, and none of them trains a stop token. */
  get neverStops(): boolean {
    return this.#answers > 0 && this.#stopping === 0
  }

  finish(): DataReport {
    return { ...this.#report, length: this.#lengths.percentiles() }
  }
}

/** How many of `rows` in a store stand, token for token, among `others` of another (or the same) store. */
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
