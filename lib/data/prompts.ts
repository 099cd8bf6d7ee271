import { createHash } from 'node:crypto'
import { PosttrainError } from '../errors.js'
import { attempt } from './encode/encode.js'
import { LengthCounts, type Lengths } from './encode/report.js'
import { ingest } from './ingest.js'
import type { Origin } from './rows/fields.js'
import type { Message } from './rows/messages.js'
import { type Asked, readPrompt } from './rows/prompt-rows.js'
import { type DataSource, type PromptSource, unweighted } from './sources.js'
import type { Template } from './text/template.js'
import type { Tokenizer } from './text/tokenizer.js'

/** A prompt to be answered. */
export interface PromptItem {
  /** Exactly what generation is fed. */
  promptIds: Int32Array
  /** What a person reads: the text, or what the user said last. */
  prompt: string
  /** The conversation; null for a text. */
  messages: readonly Message[] | null
  /** The row with all its columns. */
  row: Record<string, unknown>
  /** `file:line`. */
  origin: string
}

export interface PromptSet {
  items: PromptItem[]
  report: PromptReport
  /** Changes with every id and column: rewards may look at them all. */
  hash: string
}

/** What became of the rows of a set of prompts. */
export interface PromptReport {
  read: number
  rows: number
  dropped: { badRow: number; tooLong: number; empty: number }
  tokens: number
  length: Lengths
  /** The first bad row that was skipped, as an error message; null where there was none. */
  firstBadRow: string | null
}

export interface PromptOptions {
  tokenizer: Tokenizer
  template: Template
  /** Tokens of a prompt at most. */
  maxLength: number
  /** What becomes of a longer one. */
  overflow: 'drop' | 'error'
  onBadRow: 'error' | 'skip'
  signal?: AbortSignal | undefined
}

/** A row and what is asked in it. */
interface Read {
  row: Record<string, unknown>
  asked: Asked
}

/** Reads and encodes prompts, which stay in memory. Throws ERR_DATA with file and line, or where none is left. */
export async function loadPrompts(source: PromptSource, options: PromptOptions): Promise<PromptSet> {
  const set = new SetBuilder(options)
  for (const data of unweighted(source as DataSource, 'prompts have no weight')) {
    await ingest<Read, { promptIds: Int32Array }>(data, {
      onBadRow: options.onBadRow,
      signal: options.signal,
      slice: 1,
      read: (row, origin) => ({ row: row as Read['row'], asked: readPrompt(row, origin) }),
      encode: async (rows) => rows.map(({ asked }) => attempt(() => ({ promptIds: idsOf(asked, options) }))),
      keep: (read, { promptIds }, origin) => set.keep(read, promptIds, origin),
      skip: (message) => set.skip(message),
    })
  }
  return set.finish()
}

function idsOf(asked: Asked, { tokenizer, template }: PromptOptions): Int32Array {
  return 'text' in asked
    ? Int32Array.from([...tokenizer.prefixIds, ...tokenizer.encode(asked.text, { first: true })])
    : template.promptIds(asked, tokenizer)
}

/** A set while its rows come by. */
class SetBuilder {
  readonly #options: PromptOptions
  readonly #items: PromptItem[] = []
  readonly #hash = createHash('sha256')
  readonly #lengths = new LengthCounts()
  readonly #report = {
    read: 0,
    dropped: { badRow: 0, tooLong: 0, empty: 0 },
    tokens: 0,
    firstBadRow: null as string | null,
  }

  constructor(options: PromptOptions) {
    this.#options = options
  }

  skip(message: string): void {
    this.#report.read++
    this.#report.dropped.badRow++
    this.#report.firstBadRow ??= message
  }

  keep({ row, asked }: Read, promptIds: Int32Array, { source, line }: Origin): void {
    const { maxLength, overflow } = this.#options
    const { length } = promptIds
    const origin = `${source}:${line}`
    this.#report.read++
    if (length === 0) {
      this.#report.dropped.empty++
      return
    }
    if (length > maxLength) {
      if (overflow === 'error') throw leavesNoRoom(origin, length, maxLength)
      this.#report.dropped.tooLong++
      return
    }
    this.#lengths.add(length)
    this.#report.tokens += length
    this.#hash.update(`${length};`).update(new Uint8Array(promptIds.buffer)).update(columnsOf(row))
    this.#items.push({
      promptIds,
      prompt: 'text' in asked ? asked.text : lastSaid(asked.messages),
      messages: 'text' in asked ? null : unmarked(asked.messages),
      row,
      origin,
    })
  }

  finish(): PromptSet {
    const { read, dropped, tokens, firstBadRow } = this.#report
    const rows = this.#items.length
    if (rows === 0) {
      throw new PosttrainError(
        'ERR_DATA',
        `there is no prompt: of ${read} rows ${dropped.badRow} are bad, ${dropped.tooLong} too long and ${dropped.empty} empty`,
      )
    }
    const report = { read, rows, dropped, tokens, length: this.#lengths.percentiles(), firstBadRow }
    return { items: this.#items, report, hash: this.#hash.digest('hex') }
  }
}

function leavesNoRoom(origin: string, length: number, maxLength: number): PosttrainError {
  return new PosttrainError(
    'ERR_DATA',
    `${origin}: a prompt of ${length} tokens leaves no room for the answer (at most ${maxLength}): shorten it, lower maxNewTokens, or drop such rows with overflow 'drop'`,
  )
}

/** The columns as JSON has them, so that rows that were kept in a file and read again are the same. */
function columnsOf(row: unknown): string {
  try {
    return JSON.stringify(row, (_, value: unknown) => (typeof value === 'bigint' ? `${value}` : value))
  } catch {
    // A list in memory may hold what has no JSON; such columns are not told apart.
    return ''
  }
}

/** Without marks of what is trained, which say nothing of what is asked. */
function unmarked(messages: readonly Message[]): Message[] {
  return messages.map(({ train: _, ...message }) => message as Message)
}

function lastSaid(messages: readonly Message[]): string {
  const { content } = messages.filter(({ role }) => role === 'user').at(-1) ?? messages.at(-1)!
  return content
}
