import { missing, unknownKind } from './advice.js'
import {
  type Beside,
  besideOf,
  conversation,
  historyOf,
  labelOf,
  numberIn,
  OF_TEMPLATES,
  refuse,
  withSystem,
} from './columns.js'
import { DIALOG } from './common-start.js'
import { beginsWith, followed, type Prefill } from './continuation.js'
import { MAX_DEPTH } from './exact-json.js'
import { bad, type Fields, isEmpty, isObject, kindOf, nameIn, type Origin, text } from './fields.js'
import { instructionMessages, type Message, messagesIn, messagesOf } from './messages.js'
import { columnsOf, type Columns as RowColumns } from './names.js'
import { SYSTEM } from './roles.js'

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

function conversationExample(fields: Fields, weight: number, origin: Origin): Example {
  refuse(fields, ['history'], nameIn(origin, 'messages'), origin)
  const messages = withSystem(messagesOf(fields.messages, 'messages', origin), fields, origin)
  return { kind: 'messages', weight, ...conversation(messages, fields, origin) }
}

function instructionExample(fields: Fields, weight: number, origin: Origin): Example {
  const messages = instructionMessages({
    instruction: text(fields, 'instruction', origin),
    input: isEmpty(fields.input) ? '' : text(fields, 'input', origin),
    output: outputOf(fields, origin),
  })
  const all = withSystem([...historyOf(fields, origin), ...messages], fields, origin)
  return { kind: 'messages', messages: all, weight, ...besideOf(fields, origin) }
}

function outputOf(fields: Fields, origin: Origin): string {
  if (fields.output === undefined) throw missing('output', 'instruction + output', fields, origin)
  return text(fields, 'output', origin)
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
    ...(typeof fields.prompt === 'string' && DIALOG.test(fields.prompt) && { dialog: true }),
    ...(earlier.length > 0 && { earlier }),
    ...besideOf(fields, origin),
  }
}

function completionExample(fields: Fields, weight: number, origin: Origin): Example {
  const { prompt, completion } = fields
  if (completion === undefined) throw missing('completion', 'prompt + completion', fields, origin)
  if (typeof prompt === 'string' && typeof completion === 'string') {
    const texts = { prompt: text(fields, 'prompt', origin), completion: text(fields, 'completion', origin) }
    return { kind: 'completion', ...texts, weight, ...stringColumns(fields, origin) }
  }
  const earlier = typeof prompt === 'string' ? historyOf(fields, origin) : []
  if (typeof prompt !== 'string') refuse(fields, ['history'], 'messages', origin)
  const asked = withSystem([...earlier, ...turnsOf(fields, 'prompt', 'user', origin)], fields, origin)
  const said = behind(asked, turnsOf(fields, 'completion', 'assistant', origin))
  const context = asked.map((message) => ({ ...message, train: false }))
  const { messages, ...begun } = followed(context, said, origin)
  return { kind: 'messages', ...begun, weight, ...conversation(messages, fields, origin) }
}

/** The messages of a completion that stand behind the prompt, which it may begin with. */
function behind(asked: Message[], said: Message[]): Message[] {
  for (const prompt of [asked, asked.slice(SYSTEM.includes(asked[0]!.role) ? 1 : 0)])
    if (prompt.length > 0 && said.length > prompt.length && beginsWith(said, prompt))
      return said.slice(prompt.length)
  return said
}

/** Reads a column of messages, or a text as one message. */
function turnsOf(fields: Fields, name: string, role: string, origin: Origin): Message[] {
  const value = fields[name]
  if (Array.isArray(value)) return messagesOf(value, name, origin)
  if (isObject(value)) return messagesIn(value, name, origin)
  return [{ role, content: text(fields, name, origin) }]
}

/** Whether a text holds all texts in a value, but for white space. */
function holds(text: string, value: unknown, levels = MAX_DEPTH): boolean {
  if (typeof value === 'string') return text.includes(value.trim()) || spaced(text).includes(spaced(value))
  if (typeof value !== 'object' || value === null) return true
  const items: Iterable<unknown> = value instanceof Map ? value.values() : Object.values(value)
  return levels > 0 && [...items].every((item) => holds(text, item, levels - 1))
}

const spaced = (text: string) => text.trim().replace(/\s+/g, ' ')

/** Texts beside a prompt that may belong into it. */
const CONTEXT = ['context', 'input']
/** Texts that a bare question is about, where they are more than one word, such as an id. */
const PASSAGES = [
  'passage',
  'passages',
  'article',
  'paragraph',
  'story',
  'document',
  'documents',
  'definition',
]
/** Names of a prompt that holds a bare question. */
const QUESTIONS = ['question', 'query', 'problem', 'input', 'inputs']

function isProse(value: unknown, levels = 4): boolean {
  if (typeof value === 'string') return /\S\s+\S/.test(value)
  if (typeof value !== 'object' || value === null || levels === 0) return false
  const items: Iterable<unknown> = value instanceof Map ? value.values() : Object.values(value)
  return [...items].some((item) => isProse(item, levels - 1))
}

/** Throws ERR_DATA for a text beside a prompt or an instruction that would be left out. */
export function refuseContext(fields: Fields, origin: Origin): void {
  const { messages, instruction } = fields
  const place = instruction === undefined ? 'prompt' : 'instruction'
  const asked = fields[place]
  if (messages !== undefined || typeof asked !== 'string') return
  const at = nameIn(origin, place)
  const passages = QUESTIONS.includes(at) ? PASSAGES.filter((name) => isProse(fields[name])) : []
  const left = [...CONTEXT, ...passages].find(
    (name) => !holds(asked, fields[name]) && !(name === 'input' && place === 'instruction'),
  )
  if (left === undefined) return
  throw bad(origin, left, `has no place beside ${at}: write it into ${at} where it belongs, or leave it out`)
}

function textExample(fields: Fields, weight: number, origin: Origin): Example {
  const { role } = fields
  if (typeof role === 'string')
    throw bad(
      origin,
      'text',
      `is one message, of ${JSON.stringify(role)}: a row is a whole conversation, messages`,
    )
  refuse(fields, OF_TEMPLATES, 'a row of text', origin)
  return { kind: 'text', text: text(fields, 'text', origin), weight, ...renderedOf(fields, origin) }
}

/** Reads the kind of row that fields make. */
export function exampleOf(fields: Fields, origin: Origin): Example {
  const weight = weightOf(fields, origin)
  if (fields.messages !== undefined) return conversationExample(fields, weight, origin)
  if (fields.instruction !== undefined) return instructionExample(fields, weight, origin)
  if (fields.prompt !== undefined) return completionExample(fields, weight, origin)
  if (fields.text !== undefined) return textExample(fields, weight, origin)
  throw unknownKind(fields, origin)
}

/**
 * Reads a row of the kind that its columns determine: `messages` (or ShareGPT's `conversations`), `instruction` +
 * `output`, `prompt` + `completion`, `text`. Throws ERR_DATA naming file, line, field and what was expected.
 */
export const readRow = (row: unknown, origin: Origin): Example => exampleIn(columnsOf(row, origin))

/** `readRow` for the columns of a row. */
export function exampleIn({ fields, at }: RowColumns): Example {
  refuseContext(fields, at)
  const example = exampleOf(fields, at)
  if (labelOf(fields) === false && !isClass(fields, example, at))
    throw bad(
      at,
      'label',
      `${fields.label} marks an undesirable response, which is not trained on: leave the row out, use dpo with loss kto, or rename the column if it means another thing`,
    )
  return example
}

/** Whether a label is the class of the text beside it. */
const isClass = ({ label, text }: Fields, { kind }: Example, origin: Origin) =>
  nameIn(origin, 'label') === 'label' && (kind === 'text' || (label !== false && !isEmpty(text)))
