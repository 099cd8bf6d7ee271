import { createHash } from 'node:crypto'
import type { Dropped, EncodedRow } from './mask.js'
import type { Example } from './rows.js'

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
  length: { min: number; median: number; p90: number; p99: number; max: number }
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

function digest(text: string | Uint8Array): string {
  return createHash('sha1').update(text).digest('base64').slice(0, 16)
}

function wordsOf(example: Example): string {
  const text =
    example.kind === 'text'
      ? example.text
      : example.kind === 'completion'
        ? `${example.prompt}\n${example.completion}`
        : example.messages.map(({ role, content }) => `${role}\n${content}`).join('\n')
  return text
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[\p{P}\p{S}\s]+/gu, '')
}

/** Gathers the report while rows come by. */
export class ReportBuilder {
  readonly #lengths: number[] = []
  readonly #exact = new Map<string, number>()
  readonly #near = new Set<string>()
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

  /** One example and what became of it. */
  example(example: Example, results: readonly (EncodedRow | Dropped)[]): void {
    this.#report.read++
    let near = results.length > 0
    for (const result of results) {
      if (typeof result === 'string') {
        this.#report.dropped[result]++
        continue
      }
      near = this.#row(result) && near
    }
    const words = digest(wordsOf(example))
    if (this.#near.has(words) && near) this.#report.duplicates.near++
    this.#near.add(words)
  }

  /** Keys of the rows, for a comparison with other data. */
  get keys(): ReadonlyMap<string, number> {
    return this.#exact
  }

  /** The report so far; `validation` are the keys of the validation rows. */
  finish(validation?: ReadonlyMap<string, number>): DataReport {
    const sorted = Float64Array.from(this.#lengths).sort()
    const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0
    let shared = 0
    if (validation !== undefined)
      for (const [key, count] of this.#exact) if (validation.has(key)) shared += count
    return {
      ...this.#report,
      sharedWithValidation: shared,
      length: { min: at(0), median: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) },
    }
  }

  /** Whether the row is new. */
  #row(row: EncodedRow): boolean {
    const report = this.#report
    const length = row.inputIds.length
    this.#lengths.push(length)
    report.rows++
    report.tokens += length
    for (let t = 1; t < length; t++) if (row.labels[t] !== -100) report.trainTokens++
    report.truncated += Number(row.truncated)
    report.emptyOutputs += Number(row.emptyOutput)
    report.doubleBos += Number(row.doubleBos)
    report.withoutStop += Number(!row.stops)
    report.jointDiffers += Number(row.jointDiffers)
    const bytes = new Uint8Array(row.inputIds.buffer, row.inputIds.byteOffset, row.inputIds.byteLength)
    const key = digest(bytes)
    const seen = this.#exact.get(key) ?? 0
    this.#exact.set(key, seen + 1)
    if (seen > 0) report.duplicates.exact++
    return seen === 0
  }
}
