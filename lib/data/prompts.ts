import { createHash } from 'node:crypto'
import { PosttrainError } from '../errors.js'
import { attempt } from './encode/encode.js'
import { LengthCounts, type Lengths } from './encode/report.js'
import { ingest } from './ingest.js'
import { plainOf } from './rows/exact-json.js'
import type { Origin } from './rows/fields.js'
import type { Message } from './rows/messages.js'
import { type PromptContent, readPrompt } from './rows/prompt-rows.js'
import { type DataSource, type PromptSource, unweighted } from './sources.js'
import type { Template } from './text/template.js'
import type { Tokenizer } from './text/tokenizer.js'

/** An encoded prompt of a rollout. */
export interface PromptItem {
  /** Input ids of generation. */
  promptIds: Int32Array
  /** Text of the prompt, or the last message of the user. */
  prompt: string
  /** Messages of the prompt; null for a text. */
  messages: readonly Message[] | null
  /** The row with all its columns. */
  row: Record<string, unknown>
  /** `file:line`. */
  origin: string
}

export interface PromptSet {
  items: PromptItem[]
  report: PromptReport
  /** Depends on all ids and columns, since reward functions may read any column. */
  hash: string
}

/** Counts of prompts read, dropped and kept, with their lengths. */
export interface PromptReport {
  read: number
  rows: number
  dropped: { badRow: number; tooLong: number; empty: number }
  tokens: number
  length: Lengths
  /** Error message of the first skipped bad row; null without any. */
  firstBadRow: string | null
}

export interface PromptOptions {
  tokenizer: Tokenizer
  template: Template
  /** Maximum tokens of a prompt. */
  maxLength: number
  /** What to do with a longer prompt. */
  overflow: 'drop' | 'error'
  onBadRow: 'error' | 'skip'
  signal?: AbortSignal | undefined
}

/** A row with the prompt in it. */
interface Read {
  row: Record<string, unknown>
  content: PromptContent
}

/** Reads and encodes prompts, which stay in memory. Throws ERR_DATA with file and line, or without usable prompts. */
export async function loadPrompts(source: PromptSource, options: PromptOptions): Promise<PromptSet> {
  const set = new SetBuilder(options)
  for (const data of unweighted(source as DataSource, 'prompts have no weight')) {
    await ingest<Read, { promptIds: Int32Array }>(data, {
      onBadRow: options.onBadRow,
      signal: options.signal,
      slice: 1,
      read: (row, origin, plain) => ({ row: plain as Read['row'], content: readPrompt(row, origin) }),
      encode: async (rows) =>
        rows.map(({ content }) => attempt(() => ({ promptIds: idsOf(content, options) }))),
      keep: (read, { promptIds }, origin) => set.keep(read, promptIds, origin),
      skip: (message) => set.skip(message),
    })
  }
  return set.finish()
}

function idsOf(content: PromptContent, { tokenizer, template }: PromptOptions): Int32Array {
  return 'text' in content
    ? Int32Array.from([...tokenizer.prefixIds, ...tokenizer.encode(content.text, { first: true })])
    : template.promptIds(content, tokenizer)
}

/** Collects prompts into a set. */
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

  keep({ row, content }: Read, promptIds: Int32Array, { source, line }: Origin): void {
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
      prompt: 'text' in content ? content.text : lastUserText(content.messages),
      messages: 'text' in content ? null : unmarked(content.messages),
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
        `no usable prompts: of ${read} rows ${dropped.badRow} are bad, ${dropped.tooLong} too long and ${dropped.empty} empty`,
      )
    }
    const report = { read, rows, dropped, tokens, length: this.#lengths.percentiles(), firstBadRow }
    return { items: this.#items, report, hash: this.#hash.digest('hex') }
  }
}

function leavesNoRoom(origin: string, length: number, maxLength: number): PosttrainError {
  return new PosttrainError(
    'ERR_DATA',
    `${origin}: a prompt of ${length} tokens leaves no room for the response (at most ${maxLength}): shorten it, lower maxNewTokens, or drop such rows with overflow 'drop'`,
  )
}

/** Serializes the columns as JSON, so that rows written to a file and read back hash the same. */
function columnsOf(row: unknown): string {
  try {
    return JSON.stringify(row, (_, value: unknown) => (typeof value === 'bigint' ? `${value}` : value))
  } catch {
    // Rows in memory may hold values without JSON, which the hash then leaves out.
    return ''
  }
}

/** Messages in JavaScript's own values, without what is not part of the prompt. */
function unmarked(messages: readonly Message[]): Message[] {
  return messages.map(({ train: _, contentParts: _parts, ...message }) => plainOf(message) as Message)
}

function lastUserText(messages: readonly Message[]): string {
  const { content } = messages.filter(({ role }) => role === 'user').at(-1) ?? messages.at(-1)!
  return content
}
