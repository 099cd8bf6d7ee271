import type { Example } from '../rows/rows.js'
import type { TextForm } from '../rows/string-rows.js'
import type { Tokenizer } from '../text/tokenizer.js'
import { ColumnCounts } from './column-counts.js'
import { type Digest, DigestSet, NumberList } from './digests.js'
import { type Encoded, rowsIn } from './encode.js'
import { exampleText } from './example.js'
import { LengthCounts, type Lengths } from './lengths.js'
import { type Dropped, type EncodedRow, isPredicted } from './mask.js'
import type { TokenStore } from './token-store.js'

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
  /** Rows with a turn that is trained after a part of its generation prompt only: the template renders the rest otherwise. */
  partialPrompts: number
  /** Rows with a turn whose end mark is context, because generation would not stop at it. */
  unstoppedTurns: number
  /** Pieces of the data that look like special tokens or turn markers and were read as text. */
  guarded: number
  /** Rows with reasoning that the template left out. */
  droppedReasoning: number
  /** Rows with text beside tool calls that the template left out. */
  droppedContent: number
  /** Rows with tools that the template left out. */
  droppedTools: number
  /**
   * Rows with marks of special tokens in plain text, a string prompt or its completion, which were read as text: if the
   * texts are rendered already, say so with `rendered: true`.
   */
  specialMarks: number
  /** Rows with a string prompt, by how it was taken. */
  stringPrompts: StringCounts
  /** The first row as one text with special tokens spelled out, trained tokens between ⟦ and ⟧; null without rows. */
  example: string | null
  /** Error message of the first skipped bad row; null without any. */
  firstBadRow: string | null
  /** What files may have been meant to hold other than what was read, in a sentence each. */
  notes: string[]
  /** Columns with values that were not read, with the number of rows that have them. */
  unreadColumns: Record<string, number>
}

/**
 * Rows with a string prompt: in a user turn of the template, raw, or raw and rendered already (marks of special tokens
 * are special tokens).
 */
export type StringCounts = Record<TextForm, number>

/** Counts of the report that are sums over the kept rows. */
const COUNTED = [
  'truncated',
  'emptyOutputs',
  'doubleBos',
  'withoutStop',
  'jointDiffers',
  'partialPrompts',
  'unstoppedTurns',
  'guarded',
  'droppedReasoning',
  'droppedContent',
  'droppedTools',
  'specialMarks',
] as const satisfies (keyof DataReport)[]

/** What the report counts of a kept row, besides its tokens. */
interface Facts {
  counts: Partial<Record<(typeof COUNTED)[number], number>>
  strings: TextForm | null
  /** The first of its example: a long text has several rows, a prompt several responses. */
  first: boolean
}

/** Rows that a report is about, and what it needs to find duplicates among them. */
export interface ReportOn {
  store: TokenStore
  tokenizer: Tokenizer
  /** Whether a row of the store is among them. Default: all are. */
  holds?: (row: number) => boolean
  /** Whether rows that were dropped belong to them. */
  dropped: boolean
  /** Digests by which the entry at an index is compared with others. Default: those of its rows. */
  digests?: (entry: number) => readonly Digest[]
}

/** Collects what is needed to report on all rows, or on some of them. */
export class ReportBuilder {
  /** Kinds of rows by their facts; few, since most rows are alike. */
  readonly #kinds: Facts[] = []
  readonly #kindOf = new Map<string, number>()
  /** Kind and number of labels of each row of the store. */
  readonly #rows = new NumberList()
  readonly #labels = new NumberList()
  /** Examples, or prompts with their responses: the first row, the number of rows, a hash of the words. */
  readonly #entries = {
    first: new NumberList(),
    count: new NumberList(),
    low: new NumberList(),
    high: new NumberList(),
  }
  /** Rows read of which nothing was kept. */
  #lost = 0
  /** Rows with a response, and those of them that train a stop token. */
  #responses = 0
  #stopping = 0
  #templated = false
  readonly #dropped: DataReport['dropped'] = { badRow: 0, tooLong: 0, noLabels: 0, empty: 0 }
  #firstBadRow: string | null = null
  readonly #notes: string[] = []
  readonly #unread = new ColumnCounts()

  badRow(message: string): void {
    this.#lost++
    this.#dropped.badRow++
    this.#firstBadRow ??= message
  }

  note(sentence: string): void {
    this.#notes.push(sentence)
  }

  /** Counts columns of a row that were not read. */
  unread(columns: readonly string[]): void {
    this.#unread.add(columns)
  }

  /** Counts an example whose rows are the next of the store. */
  example(kind: Example['kind'], encoded: Encoded, maxLength: number): void {
    const first = this.#rows.length
    for (const row of rowsIn(encoded, maxLength)) {
      if (typeof row === 'string') this.#dropped[row]++
      else this.#keep(row, kind, encoded, this.#rows.length === first)
    }
    this.#enter(first, encoded.words)
  }

  /**
   * Counts the responses of a read row, or of one of its groups: why each was dropped, and those that were kept, the next
   * of the store. `words` is a hash of all of them; `isFirst` is false for further groups of a row.
   */
  responses(
    dropped: readonly Dropped[],
    kept: readonly { row: EncodedRow; kind: Example['kind']; encoded: Encoded }[],
    words: Digest,
    isFirst = true,
  ): void {
    const first = this.#rows.length
    for (const reason of dropped) this.#dropped[reason]++
    for (const [i, { row, kind, encoded }] of kept.entries())
      this.#keep(row, kind, encoded, isFirst && i === 0)
    this.#enter(first, words)
  }

  /** There are responses, but none trains a stop token. */
  get neverStops(): boolean {
    return this.#responses > 0 && this.#stopping === 0
  }

  /** Whether kept rows were rendered by the template. */
  get templated(): boolean {
    return this.#templated
  }

  /** Counts for an error, before any report. */
  get dropped(): Pick<DataReport, 'read' | 'dropped'> {
    return { read: this.#lost + this.#entries.first.length, dropped: this.#dropped }
  }

  async report(on: ReportOn): Promise<DataReport> {
    const { store, holds = () => true } = on
    const lengths = new LengthCounts()
    const report: DataReport = {
      read: on.dropped ? this.#lost : 0,
      rows: 0,
      dropped: on.dropped ? { ...this.#dropped } : { badRow: 0, tooLong: 0, noLabels: 0, empty: 0 },
      truncated: 0,
      tokens: 0,
      trainTokens: 0,
      length: { min: 0, median: 0, p90: 0, p99: 0, max: 0 },
      duplicates: this.#duplicates(on, holds),
      sharedWithValidation: 0,
      emptyOutputs: 0,
      doubleBos: 0,
      withoutStop: 0,
      jointDiffers: 0,
      partialPrompts: 0,
      unstoppedTurns: 0,
      guarded: 0,
      droppedReasoning: 0,
      droppedContent: 0,
      droppedTools: 0,
      specialMarks: 0,
      stringPrompts: { turn: 0, raw: 0, rendered: 0 },
      example: null,
      firstBadRow: on.dropped ? this.#firstBadRow : null,
      notes: on.dropped ? [...this.#notes] : [],
      unreadColumns: on.dropped ? this.#unread.counts() : {},
    }
    for (let row = 0; row < this.#rows.length; row++) {
      if (!holds(row)) continue
      const { counts, strings, first } = this.#kinds[this.#rows.at(row)]!
      const length = store.tokensOf(row)
      lengths.add(length)
      report.rows++
      report.tokens += length
      report.trainTokens += this.#labels.at(row)
      report.read += Number(first)
      if (strings !== null) report.stringPrompts[strings] += Number(first)
      for (const name of COUNTED) report[name] += counts[name] ?? 0
      report.example ??= exampleText(await store.read(row), on.tokenizer)
    }
    return { ...report, length: lengths.percentiles() }
  }

  #keep(row: EncodedRow, kind: Example['kind'], { strings, marks }: Encoded, first: boolean): void {
    const { conversation } = row
    const { length } = row.inputIds
    let labels = 0
    for (let t = 0; t < length; t++) labels += Number(isPredicted(row.labels, t, 0))
    const counts = {
      truncated: Number(row.truncated),
      emptyOutputs: Number(row.emptyOutput),
      doubleBos: Number(row.doubleBos),
      withoutStop: Number(!row.stops),
      jointDiffers: Number(row.jointDiffers),
      partialPrompts: Number(conversation?.partialPrompt ?? false),
      unstoppedTurns: Number(conversation?.unstopped ?? false),
      guarded: conversation?.guarded ?? 0,
      droppedReasoning: Number(conversation?.droppedReasoning ?? false),
      droppedContent: Number(conversation?.droppedContent ?? false),
      droppedTools: Number(conversation?.droppedTools ?? false),
      specialMarks: Number(marks && first),
    }
    const facts: Facts = { counts, strings, first }
    const key = JSON.stringify(facts)
    let known = this.#kindOf.get(key)
    if (known === undefined) {
      known = this.#kinds.push(facts) - 1
      this.#kindOf.set(key, known)
    }
    this.#rows.push(known)
    this.#labels.push(labels)
    this.#templated ||= kind === 'messages' || strings === 'turn'
    if (kind === 'text') return
    this.#responses++
    this.#stopping += Number(row.stops)
  }

  #enter(first: number, [low, high]: Digest): void {
    const count = this.#rows.length - first
    if (count === 0) {
      this.#lost++
      return
    }
    this.#entries.first.push(first)
    this.#entries.count.push(count)
    this.#entries.low.push(low)
    this.#entries.high.push(high)
  }

  #duplicates({ store, digests }: ReportOn, holds: (row: number) => boolean): DataReport['duplicates'] {
    const [exact, words] = [new DigestSet(), new DigestSet()]
    const found = { exact: 0, near: 0 }
    const { first, count, low, high } = this.#entries
    for (let entry = 0; entry < first.length; entry++) {
      const rows = Array.from({ length: count.at(entry) }, (_, i) => first.at(entry) + i).filter(holds)
      if (rows.length === 0) continue
      let fresh = true
      const own = digests === undefined ? rows.map((row) => store.digestOf(row)) : digests(entry)
      for (const each of own) {
        if (exact.add(each)) continue
        found.exact++
        fresh = false
      }
      if (!words.add([low.at(entry), high.at(entry)]) && fresh) found.near++
    }
    return found
  }
}
