import { PosttrainError } from '../../errors.js'

/** One turn of a conversation. */
export interface Message {
  role: string
  content: string
  /** false leaves an assistant's turn out of the training. */
  train?: boolean
  /** Whatever else the chat template looks at. */
  [key: string]: unknown
}

/** Columns of one's own may stand beside those that the kind of a row asks for. */
interface Columns {
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
type Fields = Record<string, unknown>

/** A row that was understood. */
export type Example = (
  | { kind: 'text'; text: string }
  | { kind: 'completion'; prompt: string; completion: string }
  | { kind: 'messages'; messages: Message[]; tools?: unknown[] }
) & { weight: number }

/** Where a row came from, for messages. */
export interface Origin {
  /** A path, or what the caller's rows are called. */
  source: string
  /** From 1: a line of a .jsonl file, else the place among the rows. */
  line: number
}

const SHAREGPT_ROLES: Record<string, string> = {
  human: 'user',
  user: 'user',
  gpt: 'assistant',
  assistant: 'assistant',
  chatgpt: 'assistant',
  model: 'assistant',
  system: 'system',
  tool: 'tool',
  observation: 'tool',
  function_call: 'assistant',
}

export function bad(origin: Origin, field: string, expected: string): PosttrainError {
  return new PosttrainError('ERR_DATA', `${origin.source}:${origin.line}: ${field} ${expected}`)
}

function text(row: Fields, field: string, origin: Origin): string {
  const value = row[field]
  if (typeof value !== 'string') throw bad(origin, field, `must be a string, got ${kindOf(value)}`)
  return value
}

export function kindOf(value: unknown): string {
  return value === undefined
    ? 'nothing'
    : value === null
      ? 'null'
      : Array.isArray(value)
        ? 'a list'
        : `a ${typeof value}`
}

function weightOf(row: Fields, origin: Origin): number {
  const value = row.weight ?? 1
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) {
    throw bad(origin, 'weight', 'must be a number of at least 0')
  }
  return value
}

/** Messages in either spelling, `role` and `content` or ShareGPT's; the error names the field. */
export function messagesOf(value: unknown, field: string, origin: Origin): Message[] {
  if (!Array.isArray(value) || value.length === 0)
    throw bad(origin, field, 'must be a list of at least one message')
  return value.map((item: unknown, i) => {
    const at = `${field}[${i}]`
    if (typeof item !== 'object' || item === null)
      throw bad(origin, at, `must be an object, got ${kindOf(item)}`)
    const { from, value: said, ...rest } = item as Fields
    // ShareGPT: { from: 'human' | 'gpt' | ..., value }
    if (from !== undefined && rest.role === undefined) {
      const role = SHAREGPT_ROLES[String(from)]
      if (role === undefined) throw bad(origin, `${at}.from`, `has the unknown value ${JSON.stringify(from)}`)
      if (typeof said !== 'string') throw bad(origin, `${at}.value`, `must be a string, got ${kindOf(said)}`)
      return { ...rest, role, content: said }
    }
    const { role, content } = rest
    if (typeof role !== 'string' || role === '')
      throw bad(origin, `${at}.role`, `must be a string, got ${kindOf(role)}`)
    const train = rest.train
    if (train !== undefined && typeof train !== 'boolean')
      throw bad(origin, `${at}.train`, 'must be true or false')
    const calls = Array.isArray(rest.tool_calls)
    if (typeof content !== 'string' && !(calls && (content === null || content === undefined))) {
      throw bad(origin, `${at}.content`, `must be a string, got ${kindOf(content)}`)
    }
    return { ...rest, role, content: content ?? '' } as Message
  })
}

export function toolsOf(value: unknown, origin: Origin): unknown[] | undefined {
  if (value === undefined || value === null || value === '') return undefined
  let tools = value
  if (typeof value === 'string') {
    try {
      tools = JSON.parse(value)
    } catch {
      throw bad(origin, 'tools', 'must be a list, or JSON of one')
    }
  }
  if (!Array.isArray(tools)) throw bad(origin, 'tools', `must be a list, got ${kindOf(tools)}`)
  return tools.length === 0 ? undefined : tools
}

/** Earlier questions and answers; the answers are trained too, as those of a conversation are. */
function historyOf(value: unknown, origin: Origin): Message[] {
  if (value === undefined || value === null) return []
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

/** Alpaca's classic form as a conversation; templates that know it also see `input` apart. */
export function instructionMessages(row: {
  instruction: string
  input?: string
  output?: string
  system?: string
}): Message[] {
  const { instruction, input = '', output, system = '' } = row
  const user: Message = { role: 'user', content: input === '' ? instruction : `${instruction}\n${input}` }
  if (input !== '') Object.assign(user, { instruction, input })
  return [
    ...(system === '' ? [] : [{ role: 'system', content: system }]),
    user,
    ...(output === undefined ? [] : [{ role: 'assistant', content: output }]),
  ]
}

/**
 * Finds the kind of a row from its fields: `messages` (or ShareGPT's `conversations`), `instruction` + `output`,
 * `prompt` + `completion`, `text`. Throws ERR_DATA naming file, line, field and what was expected.
 */
export function readRow(row: unknown, origin: Origin): Example {
  if (typeof row !== 'object' || row === null || Array.isArray(row)) {
    throw new PosttrainError(
      'ERR_DATA',
      `${origin.source}:${origin.line}: a row must be an object, got ${kindOf(row)}`,
    )
  }
  const fields = row as Fields
  const weight = weightOf(fields, origin)
  const list =
    fields.messages !== undefined ? 'messages' : fields.conversations !== undefined ? 'conversations' : null
  if (list !== null) {
    const messages = messagesOf(fields[list], list, origin)
    const system = fields.system
    if (typeof system === 'string' && system !== '' && messages[0]?.role !== 'system') {
      messages.unshift({ role: 'system', content: system })
    }
    const tools = toolsOf(fields.tools, origin)
    return { kind: 'messages', messages, weight, ...(tools === undefined ? {} : { tools }) }
  }
  if (fields.instruction !== undefined) {
    const optional = (field: string) =>
      fields[field] === undefined || fields[field] === null ? '' : text(fields, field, origin)
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
  if (fields.prompt !== undefined) {
    if (Array.isArray(fields.prompt)) {
      const asked = messagesOf(fields.prompt, 'prompt', origin).map((message) => ({
        ...message,
        train: false,
      }))
      return {
        kind: 'messages',
        messages: [...asked, ...messagesOf(fields.completion, 'completion', origin)],
        weight,
      }
    }
    return {
      kind: 'completion',
      prompt: text(fields, 'prompt', origin),
      completion: text(fields, 'completion', origin),
      weight,
    }
  }
  if (fields.text !== undefined) return { kind: 'text', text: text(fields, 'text', origin), weight }
  const names = Object.keys(fields).slice(0, 8).join(', ')
  throw new PosttrainError(
    'ERR_DATA',
    `${origin.source}:${origin.line}: the fields (${names || 'none'}) are of no known kind; expected messages, ` +
      'instruction + output, prompt + completion, or text',
  )
}
