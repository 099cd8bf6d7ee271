import { PosttrainError } from '../../errors.js'
import { bad, type Fields, fieldsOf, kindOf, type Origin, text } from './fields.js'
import { instructionMessages, type Message, messagesOf, toolsOf } from './messages.js'

/** Columns of any row; further ones are allowed. */
export interface Columns {
  /** Weight of the row's labels in the loss; default 1. */
  weight?: number
  [column: string]: unknown
}

/** Plain text; all of its tokens are trained. */
export interface TextRow extends Columns {
  text: string
}

/** A prompt and the completion that is trained, as texts or as messages of one conversation. */
export interface CompletionRow extends Columns {
  prompt: string | Message[]
  completion: string | Message[]
}

/** Alpaca's form; `history` holds earlier instructions with their responses. */
export interface InstructionRow extends Columns {
  instruction: string
  input?: string
  output: string
  system?: string
  history?: [string, string][]
}

export interface MessagesRow extends Columns {
  messages: Message[]
  /** Tool definitions, for templates that support them; a list, or JSON of one. */
  tools?: unknown[] | string
}

/** ShareGPT's form of a conversation. */
export interface ConversationsRow extends Columns {
  conversations: { from: string; value: string }[]
  system?: string
  tools?: unknown[] | string
}

/** A row of a file; its kind follows from its fields. */
export type Row = TextRow | CompletionRow | InstructionRow | MessagesRow | ConversationsRow

/** A checked row. */
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

/** Converts `history` to messages; its responses are trained too, as in any conversation. */
function historyOf(value: unknown, origin: Origin): Message[] {
  if (value === undefined) return []
  if (!Array.isArray(value)) throw bad(origin, 'history', `must be a list of pairs, got ${kindOf(value)}`)
  return value.flatMap((pair: unknown, i): Message[] => {
    if (!Array.isArray(pair) || pair.length !== 2 || pair.some((side) => typeof side !== 'string')) {
      throw bad(origin, `history[${i}]`, 'must be a pair of strings, an instruction and its response')
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
  const promptMessages = messagesOf(fields.prompt, 'prompt', origin).map((message) => ({
    ...message,
    train: false,
  }))
  const messages = [...promptMessages, ...messagesOf(fields.completion, 'completion', origin)]
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
    `${origin.source}:${origin.line}: unknown kind of row, with the fields ${names || '(none)'}: expected messages, ` +
      'instruction + output, prompt + completion, or text',
  )
}

/**
 * Reads a row of the kind that its columns determine: `messages` (or ShareGPT's `conversations`), `instruction` +
 * `output`, `prompt` + `completion`, `text`. Throws ERR_DATA naming file, line, field and what was expected.
 */
export function readRow(row: unknown, origin: Origin): Example {
  return exampleOf(fieldsOf(row, origin), origin)
}
