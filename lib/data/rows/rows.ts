import { PosttrainError } from '../../errors.js'
import {
  type Beside,
  besideOf,
  columnsOf,
  conversation,
  historyOf,
  LISTS,
  numberIn,
  OF_TEMPLATES,
  refuse,
  withSystem,
} from './columns.js'
import { followed, type Prefill } from './continuation.js'
import { bad, type Fields, isObject, kindOf, type Origin, text } from './fields.js'
import { instructionMessages, type Message, messagesOf } from './messages.js'

/** Columns of any row; further ones are allowed. */
export interface Columns {
  /** Weight of the row's labels in the loss; default 1. */
  weight?: number
  [column: string]: unknown
}

/** Plain text; all of its tokens are trained. */
export interface TextRow extends Columns {
  text: string
  /** The text is rendered already: marks of special tokens in it are special tokens. */
  rendered?: boolean
}

/**
 * A prompt and the completion that is trained, as messages of one conversation, or as texts: in a user and an assistant
 * turn of the template where there is one, with `system` and `history` before them and with `tools`; raw otherwise.
 */
export interface CompletionRow extends Columns {
  prompt: string | Message[]
  completion: string | Message[]
  /** The texts are rendered already: no turn is put around them, and marks of special tokens are special tokens. */
  rendered?: boolean
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

/** Columns beside a string prompt. */
export interface StringColumns extends Beside {
  /** Texts with turns of their own in them, which no template puts turns around. */
  dialog?: boolean
  rendered?: boolean
  /** The system turn and the turns of `history`. */
  earlier?: Message[]
}

/** A checked row. */
export type Example = (
  | { kind: 'text'; text: string; rendered?: boolean }
  | ({ kind: 'completion'; prompt: string; completion: string } & StringColumns)
  | ({
      kind: 'messages'
      messages: Message[]
      /** The turn that began in the prompt. */
      prefill?: Prefill
    } & Beside)
) & { weight: number }

function weightOf(fields: Fields, origin: Origin): number {
  const value = fields.weight === undefined ? 1 : numberIn(fields.weight)
  if (value === undefined || value < 0) throw bad(origin, 'weight', 'must be a number of at least 0')
  return value
}

function conversationExample(fields: Fields, list: string, weight: number, origin: Origin): Example {
  refuse(fields, ['history'], list, origin)
  const messages = withSystem(messagesOf(fields[list], list, origin), fields, origin)
  return { kind: 'messages', weight, ...conversation(messages, fields, origin) }
}

function instructionExample(fields: Fields, weight: number, origin: Origin): Example {
  const messages = instructionMessages({
    instruction: text(fields, 'instruction', origin),
    input: fields.input === undefined ? '' : text(fields, 'input', origin),
    output: text(fields, 'output', origin),
  })
  const all = withSystem([...historyOf(fields, origin), ...messages], fields, origin)
  return { kind: 'messages', messages: all, weight, ...besideOf(fields, origin) }
}

function renderedOf({ rendered }: Fields, origin: Origin): { rendered?: boolean } {
  if (rendered === undefined) return {}
  if (typeof rendered === 'boolean') return { rendered }
  throw bad(origin, 'rendered', `must be true or false, got ${kindOf(rendered)}`)
}

/** Reads the columns beside a string prompt. */
export function stringColumns(fields: Fields, origin: Origin): StringColumns {
  const earlier = withSystem(historyOf(fields, origin), fields, origin)
  return {
    ...renderedOf(fields, origin),
    ...(earlier.length > 0 && { earlier }),
    ...besideOf(fields, origin),
  }
}

function completionExample(fields: Fields, weight: number, origin: Origin): Example {
  const { prompt, completion } = fields
  if (typeof prompt === 'string' && typeof completion === 'string') {
    const texts = { prompt: text(fields, 'prompt', origin), completion: text(fields, 'completion', origin) }
    return { kind: 'completion', ...texts, weight, ...stringColumns(fields, origin) }
  }
  if (completion === undefined) throw bad(origin, 'completion', `is missing${otherUse(fields)}`)
  const earlier = typeof prompt === 'string' ? historyOf(fields, origin) : []
  if (typeof prompt !== 'string') refuse(fields, ['history'], 'messages', origin)
  const asked = withSystem([...earlier, ...turnsOf(fields, 'prompt', 'user', origin)], fields, origin)
  const said = turnsOf(fields, 'completion', 'assistant', origin)
  const context = asked.map((message) => ({ ...message, train: false }))
  const { messages, ...begun } = followed(context, said, origin)
  return { kind: 'messages', ...begun, weight, ...conversation(messages, fields, origin) }
}

/** Recipes for a row with a prompt and no completion. */
function otherUse(fields: Fields): string {
  const found = ['chosen', 'rejected', 'responses'].filter((name) => fields[name] !== undefined)
  return found.length === 0
    ? ': a prompt alone is for ppo, grpo and rloo, which sample responses'
    : `: a row with ${found.join(' and ')} is for dpo and reward`
}

/** Reads a column of messages, or a text as one message. */
function turnsOf(fields: Fields, name: string, role: string, origin: Origin): Message[] {
  const value = fields[name]
  if (Array.isArray(value)) return messagesOf(value, name, origin)
  if (isObject(value)) return messagesOf([value], name, origin)
  return [{ role, content: text(fields, name, origin) }]
}

function textExample(fields: Fields, weight: number, origin: Origin): Example {
  refuse(fields, OF_TEMPLATES, 'a row of text', origin)
  return { kind: 'text', text: text(fields, 'text', origin), weight, ...renderedOf(fields, origin) }
}

/** `readRow` for the columns of a row. */
export function exampleOf(fields: Fields, origin: Origin): Example {
  const weight = weightOf(fields, origin)
  const list = LISTS.find((name) => fields[name] !== undefined)
  if (list !== undefined) return conversationExample(fields, list, weight, origin)
  if (fields.instruction !== undefined) return instructionExample(fields, weight, origin)
  if (fields.prompt !== undefined) return completionExample(fields, weight, origin)
  if (fields.text !== undefined) return textExample(fields, weight, origin)
  const names = Object.keys(fields).slice(0, 8).join(', ')
  throw new PosttrainError(
    'ERR_DATA',
    `${origin.source}:${origin.line}: unknown kind of row, with the fields ${names || '(none)'}: expected messages, ` +
      `instruction + output, prompt + completion, or text${nestedRows(fields)}`,
  )
}

/**
 * Reads a row of the kind that its columns determine: `messages` (or ShareGPT's `conversations`), `instruction` +
 * `output`, `prompt` + `completion`, `text`. Throws ERR_DATA naming file, line, field and what was expected.
 */
export function readRow(row: unknown, origin: Origin): Example {
  const fields = columnsOf(row, origin)
  for (const name of ['label', 'kto_tag'])
    if (fields[name] === false)
      throw bad(
        origin,
        name,
        'false marks an undesirable response, which is not trained on: leave the row out, or use dpo with loss kto',
      )
  return exampleOf(fields, origin)
}

/** Advice where a field seems to hold the rows themselves. */
function nestedRows(fields: Fields): string {
  const found = Object.entries(fields).find(([, value]) => Array.isArray(value) && isObject(value[0]))
  return found === undefined ? '' : ` (if ${found[0]} holds the rows, write that list alone to a file)`
}
