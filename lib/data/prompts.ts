import { createHash } from 'node:crypto'
import { PosttrainError } from '../errors.js'
import { attempt, hasMarks } from './encode/encode.js'
import { exampleText } from './encode/example.js'
import { LengthCounts, type Lengths } from './encode/lengths.js'
import { rawPromptIds } from './encode/mask.js'
import type { StringCounts } from './encode/report.js'
import { ingest } from './ingest.js'
import type { Origin } from './rows/fields.js'
import { type Message, unmarked } from './rows/messages.js'
import { type PromptContent, promptIn, splitPrompt } from './rows/prompt-rows.js'
import { formOf, placedPrompt, type StringForm, type TextForm } from './rows/string-rows.js'
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
  /** Whether prompts were rendered by the template. */
  templated: boolean
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
  /** Prompts that are texts with marks of special tokens in them, which were read as text: see `rendered`. */
  specialMarks: number
  /** Prompts that are texts, by how they were taken. */
  stringPrompts: StringCounts
  /** The first prompt as one text, with special tokens spelled out. */
  example: string
  /** Error message of the first skipped bad row; null without any. */
  firstBadRow: string | null
  /** What rows may have been meant to hold other than what was read, in a sentence each. */
  notes: string[]
}

export interface PromptOptions extends StringForm {
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

/** A prompt as it is encoded. */
export interface EncodedPrompt {
  promptIds: Int32Array
  /** With a text in a user turn of the template where there is one. */
  content: PromptContent
  /** How a text was taken; null for messages. */
  strings: TextForm | null
  /** Whether marks of special tokens in a text were read as text. */
  marks: boolean
}

/** Reads and encodes prompts, which stay in memory. Throws ERR_DATA with file and line, or without usable prompts. */
export async function loadPrompts(source: PromptSource, options: PromptOptions): Promise<PromptSet> {
  const set = new SetBuilder(options)
  for (const data of unweighted(source as DataSource, 'prompts have no weight')) {
    await ingest<Read, EncodedPrompt>(data, {
      onBadRow: options.onBadRow,
      signal: options.signal,
      slice: 1,
      read: (columns, plain) => ({ row: plain as Read['row'], content: promptIn(columns) }),
      encode: async (rows) => rows.map(({ content }) => attempt(() => encodePrompt(content, options))),
      keep: ({ row }, encoded, origin) => set.keep(row, encoded, origin),
      skip: (message) => set.skip(message),
      note: (sentence) => set.note(sentence),
    })
  }
  return set.finish()
}

/** Input ids of generation for a prompt: exactly those before the response of the same row in training. */
export function encodePrompt(
  content: PromptContent,
  { tokenizer, template, ...form }: Pick<PromptOptions, 'tokenizer' | 'template' | 'strings' | 'rendered'>,
): EncodedPrompt {
  const whole = placedPrompt(content, form)
  const promptIds =
    'text' in whole
      ? rawPromptIds(whole.text, whole.rendered === true, tokenizer)
      : template.promptIds(whole, tokenizer)
  if (!('text' in content)) return { promptIds, content, strings: null, marks: false }
  const strings = formOf(content, form)
  const marks = strings !== 'rendered' && hasMarks([content.text], tokenizer)
  return { promptIds, content: whole, strings, marks }
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
    specialMarks: 0,
    stringPrompts: { turn: 0, raw: 0, rendered: 0 },
    firstBadRow: null as string | null,
    notes: [] as string[],
  }

  constructor(options: PromptOptions) {
    this.#options = options
  }

  skip(message: string): void {
    this.#report.read++
    this.#report.dropped.badRow++
    this.#report.firstBadRow ??= message
  }

  note(sentence: string): void {
    this.#report.notes.push(sentence)
  }

  keep(row: Read['row'], encoded: EncodedPrompt, { source, line }: Origin): void {
    const { promptIds, content, strings, marks } = encoded
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
    this.#report.specialMarks += Number(marks)
    if (strings !== null) this.#report.stringPrompts[strings]++
    this.#hash.update(`${length};`).update(new Uint8Array(promptIds.buffer)).update(columnsOf(row))
    this.#items.push({
      promptIds,
      prompt: 'text' in content ? textOf(content) : lastUserText(content.messages),
      messages: 'text' in content ? null : unmarked(content.messages),
      row,
      origin,
    })
  }

  finish(): PromptSet {
    const { read, dropped, ...counts } = this.#report
    const rows = this.#items.length
    if (rows === 0) {
      throw new PosttrainError(
        'ERR_DATA',
        `no usable prompts: of ${read} rows ${dropped.badRow} are bad, ${dropped.tooLong} too long and ${dropped.empty} empty`,
      )
    }
    const example = exampleText({ inputIds: this.#items[0]!.promptIds }, this.#options.tokenizer)
    const report = { read, rows, dropped, ...counts, length: this.#lengths.percentiles(), example }
    const templated = this.#items.some(({ messages }) => messages !== null)
    return { items: this.#items, report, templated, hash: this.#hash.digest('hex') }
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

const textOf = ({ text, rendered }: { text: string; rendered?: boolean }) =>
  rendered === true ? text : splitPrompt(text, '')[0]

function lastUserText(messages: readonly Message[]): string {
  const { content } = messages.filter(({ role }) => role === 'user').at(-1) ?? messages.at(-1)!
  return content
}
