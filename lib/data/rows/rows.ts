import { PosttrainError } from '../../errors.js'
import { bad, type Fields, fieldsOf, kindOf, type Origin, text } from './fields.js'
import { instructionMessages, type Message, messagesOf, toolsOf } from './messages.js'

/** Columns of one's own may stand beside those that the kind of a row asks for. */
export interface Columns {
  /** Of all labels of the row in the loss; default 1. */
  weight?: number
  [column: string]: unknown
}

/** Plain text, every token of which is trained. */
export interface TextRow extends Columns {
  text: string
}

/** A beginning, and the end that is trained; as texts, or as messages of one conversation. */
export interface CompletionRow extends Columns {
  prompt: string | Message[]
  completion: string | Message[]
}

/** Alpaca's form; `history` are earlier questions with their answers. */
export interface InstructionRow extends Columns {
  instruction: string
  input?: string
  output: string
  system?: string
  history?: [string, string][]
}

export interface MessagesRow extends Columns {
  messages: Message[]
  /** Descriptions of functions, for templates that know them; a list, or the same as JSON. */
  tools?: unknown[] | string
}

/** ShareGPT's form of a conversation. */
export interface ConversationsRow extends Columns {
  conversations: { from: string; value: string }[]
  system?: string
  tools?: unknown[] | string
}

/** A row as it stands in a file; the kind is found from the fields. */
export type Row = TextRow | CompletionRow | InstructionRow | MessagesRow | ConversationsRow

/** A row that was understood. */
export type Example = (
  | { kind: 'text'; text: string }
  | { kind: 'completion'; prompt: string; completion: string }
  | { kind: 'messages'; messages: Message[]; tools?: unknown[] }
) & { weight: number }

function weightOf(fields: Fields, origin: Origin): number {
  const value = fields.weight ?? 1
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) {
    throw bad(origin, 'weight', 'must be a number of at least 0')
  }
  return value
}

/** Earlier questions and answers; the answers are trained too, as those of a conversation are. */
function historyOf(value: unknown, origin: Origin): Message[] {
  if (value === undefined) return []
  if (!Array.isArray(value)) throw bad(origin, 'history', `must be a list of pairs, got ${kindOf(value)}`)
  return value.flatMap((pair: unknown, i): Message[] => {
    if (!Array.isArray(pair) || pair.length !== 2 || pair.some((side) => typeof side !== 'string')) {
      throw bad(origin, `history[${i}]`, 'must be a pair of strings, a question and its answer')
    }
    return [
      { role: 'user', content: pair[0] as string },
      { role: 'assistant', content: pair[1] as string },
    ]
  })
}

function conversationExample(fields: Fields, list: string, weight: number, origin: Origin): Example {
  const messages = messagesOf(fields[list], list, origin)
  const { system } = fields
  if (typeof system === 'string' && system !== '' && messages[0]?.role !== 'system') {
    messages.unshift({ role: 'system', content: system })
  }
  const tools = toolsOf(fields.tools, origin)
  return { kind: 'messages', messages, weight, ...(tools === undefined ? {} : { tools }) }
}

function instructionExample(fields: Fields, weight: number, origin: Origin): Example {
  const optional = (field: string) => (fields[field] === undefined ? '' : text(fields, field, origin))
  const messages = instructionMessages({
    instruction: text(fields, 'instruction', origin),
    input: optional('input'),
    output: text(fields, 'output', origin),
    system: optional('system'),
  })
  const at = messages[0]?.role === 'system' ? 1 : 0
  messages.splice(at, 0, ...historyOf(fields.history, origin))
  return { kind: 'messages', messages, weight }
}

function completionExample(fields: Fields, weight: number, origin: Origin): Example {
  if (!Array.isArray(fields.prompt)) {
    const [prompt, completion] = [text(fields, 'prompt', origin), text(fields, 'completion', origin)]
    return { kind: 'completion', prompt, completion, weight }
  }
  const asked = messagesOf(fields.prompt, 'prompt', origin).map((message) => ({ ...message, train: false }))
  const messages = [...asked, ...messagesOf(fields.completion, 'completion', origin)]
  return { kind: 'messages', messages, weight }
}

/** `readRow` for the columns of a row. */
export function exampleOf(fields: Fields, origin: Origin): Example {
  const weight = weightOf(fields, origin)
  const list = ['messages', 'conversations'].find((name) => fields[name] !== undefined)
  if (list !== undefined) return conversationExample(fields, list, weight, origin)
  if (fields.instruction !== undefined) return instructionExample(fields, weight, origin)
  if (fields.prompt !== undefined) return completionExample(fields, weight, origin)
  if (fields.text !== undefined) return { kind: 'text', text: text(fields, 'text', origin), weight }
  const names = Object.keys(fields).slice(0, 8).join(', ')
  throw new PosttrainError(
    'ERR_DATA',
    `${origin.source}:${origin.line}: the fields (${names || 'none'}) are of no known kind; expected messages, ` +
      'instruction + output, prompt + completion, or text',
  )
}

/**
 * Finds the kind of a row from its columns: `messages` (or ShareGPT's `conversations`), `instruction` + `output`,
 * `prompt` + `completion`, `text`. Throws ERR_DATA naming file, line, field and what was expected.
 */
export function readRow(row: unknown, origin: Origin): Example {
  return exampleOf(fieldsOf(row, origin), origin)
}
