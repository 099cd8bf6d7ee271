import { createHash } from 'node:crypto'
import { AbortError, PosttrainError } from '../errors.js'
import { permutation, STREAM } from '../random.js'
import { splitPrompt } from './encode/mask.js'
import { LengthCounts, type Lengths } from './encode/report.js'
import { type DataSource, readRows, sourcesOf } from './formats/read.js'
import { rankedPrompt } from './rows/preference-rows.js'
import { bad, type Message, type Origin, readRow } from './rows/rows.js'
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

/** What is asked in a row, without its answer: a text as it stands, or messages for the template. */
export type Asked = { text: string } | { messages: Message[]; tools?: unknown[] }

/**
 * The prompt of a row of any kind: `prompt` alone (a text or messages), `instruction`, `messages` or `conversations`,
 * or what `chosen` and `rejected` have in common; a last answer that is there is left out. Throws ERR_DATA.
 */
export function readPrompt(row: unknown, origin: Origin): Asked {
  const fields = (typeof row === 'object' && row !== null ? row : {}) as Record<string, unknown>
  const ranked = rankedPrompt(row, origin)
  if (ranked !== null) return ranked
  const answer = Array.isArray(fields.prompt) ? [{ role: 'assistant', content: '' }] : ''
  // The reader of training rows wants an answer: an empty one stands in for it, and is taken off again.
  const filled =
    typeof row === 'object' && row !== null && !Array.isArray(row)
      ? {
          ...row,
          ...(fields.instruction !== undefined && { output: '' }),
          ...(fields.prompt !== undefined && { completion: answer }),
        }
      : row
  const example = readRow(filled, origin)
  if (example.kind === 'text')
    throw bad(origin, 'text', 'is no prompt: expected prompt, instruction or messages')
  if (example.kind === 'completion') return { text: splitPrompt(example.prompt, '')[0] }
  const { messages, tools } = example
  const asked = messages.at(-1)?.role === 'assistant' ? messages.slice(0, -1) : messages
  if (asked.length === 0) throw bad(origin, 'messages', 'has an answer and nothing that was asked')
  return { messages: asked, ...(tools !== undefined && { tools }) }
}

/** Without marks of what is trained, which say nothing of what is asked. */
function unmarked(messages: readonly Message[]): Message[] {
  return messages.map(({ train: _, ...message }) => message as Message)
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

/** Reads and encodes prompts, which stay in memory. Throws ERR_DATA with file and line, or where none is left. */
export async function loadPrompts(source: DataSource, options: PromptOptions): Promise<PromptSet> {
  const { tokenizer, template, maxLength } = options
  const items: PromptItem[] = []
  const hash = createHash('sha256')
  const report: PromptReport = {
    read: 0,
    rows: 0,
    dropped: { badRow: 0, tooLong: 0, empty: 0 },
    tokens: 0,
    length: { min: 0, median: 0, p90: 0, p99: 0, max: 0 },
    firstBadRow: null,
  }
  const lengths = new LengthCounts()
  for (const { data, weight } of sourcesOf(source)) {
    if (weight !== 1) {
      throw new PosttrainError('ERR_INVALID_ARGUMENT', `prompts have no weight, got ${weight}: leave it out`)
    }
    let since = performance.now()
    for await (const { row, origin, failure } of readRows(data)) {
      if (options.signal?.aborted) throw new AbortError(options.signal.reason)
      // Templates are rendered here: give the event loop its turns.
      if (performance.now() - since > 10) {
        await new Promise((resolve) => setImmediate(resolve))
        since = performance.now()
      }
      report.read++
      let asked: Asked
      let promptIds: Int32Array
      try {
        if (failure) throw failure
        asked = readPrompt(row, origin)
        promptIds =
          'text' in asked
            ? Int32Array.from([...tokenizer.prefixIds, ...tokenizer.encode(asked.text, { first: true })])
            : template.promptIds(asked, tokenizer)
      } catch (error) {
        if (!(error instanceof PosttrainError)) throw error
        const message = error.message.startsWith(origin.source)
          ? error.message
          : `${origin.source}:${origin.line}: ${error.message}`
        if (options.onBadRow === 'error') throw new PosttrainError(error.code, message, { cause: error })
        report.dropped.badRow++
        report.firstBadRow ??= message
        continue
      }
      if (promptIds.length === 0) {
        report.dropped.empty++
        continue
      }
      if (promptIds.length > maxLength) {
        if (options.overflow === 'error') {
          throw new PosttrainError(
            'ERR_DATA',
            `${origin.source}:${origin.line}: a prompt of ${promptIds.length} tokens leaves no room for the answer (at most ${maxLength}): shorten it, lower maxNewTokens, or drop such rows with overflow 'drop'`,
          )
        }
        report.dropped.tooLong++
        continue
      }
      lengths.add(promptIds.length)
      report.tokens += promptIds.length
      hash.update(`${promptIds.length};`).update(new Uint8Array(promptIds.buffer)).update(columnsOf(row))
      items.push({
        promptIds,
        prompt: 'text' in asked ? asked.text : lastSaid(asked.messages),
        messages: 'text' in asked ? null : unmarked(asked.messages),
        row: row as Record<string, unknown>,
        origin: `${origin.source}:${origin.line}`,
      })
    }
  }
  if (items.length === 0) {
    const { badRow, tooLong, empty } = report.dropped
    throw new PosttrainError(
      'ERR_DATA',
      `there is no prompt: of ${report.read} rows ${badRow} are bad, ${tooLong} too long and ${empty} empty`,
    )
  }
  report.rows = items.length
  report.length = lengths.percentiles()
  return { items, report, hash: hash.digest('hex') }
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

function lastSaid(messages: readonly Message[]): string {
  const { content } = messages.filter(({ role }) => role === 'user').at(-1) ?? messages.at(-1)!
  return content
}

/** Prompts number `from` to `from + count - 1` of an endless row of passes, each in an order of its own. */
export function takePrompts(
  set: PromptSet,
  options: { from: number; count: number; seed: number; shuffle: boolean },
): PromptItem[] {
  const { from, count, seed, shuffle } = options
  const size = set.items.length
  let pass = -1
  let order: Uint32Array | null = null
  return Array.from({ length: count }, (_, i) => {
    const current = Math.floor((from + i) / size)
    if (current !== pass) {
      pass = current
      order = shuffle ? permutation(size, seed, STREAM.prompts + pass) : null
    }
    const place = (from + i) % size
    return set.items[order === null ? place : order[place]!]!
  })
}
