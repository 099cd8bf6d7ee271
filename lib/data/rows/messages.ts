import { bad, type Fields, isObject, kindOf, type Origin, withoutNulls } from './fields.js'

/** One turn of a conversation. */
export interface Message {
  role: string
  content: string
  /** `false` excludes an assistant turn from training. */
  train?: boolean
  /** Any other field that the chat template reads. */
  [key: string]: unknown
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

/**
 * Removes the null fields of a message and of its tool calls. Tables give every message the fields that any has, null
 * where it has none, and templates check whether `tool_calls` is defined. Null arguments of a call are values and stay.
 * A null `content` stays too: it is valid with tool calls, an error otherwise.
 */
function messageFields(item: object): Fields {
  const fields = withoutNulls(item, ['content'])
  const calls = fields.tool_calls
  return Array.isArray(calls) ? { ...fields, tool_calls: calls.map(callFields) } : fields
}

function callFields(call: unknown): unknown {
  if (!isObject(call)) return call
  const fields = withoutNulls(call)
  return isObject(fields.function) ? { ...fields, function: withoutNulls(fields.function) } : fields
}

/** Reads messages with `role` and `content`, or in ShareGPT's form; errors name the field. */
export function messagesOf(value: unknown, field: string, origin: Origin): Message[] {
  if (!Array.isArray(value) || value.length === 0)
    throw bad(origin, field, 'must be a list of at least one message')
  return value.map((item: unknown, i) => messageOf(item, `${field}[${i}]`, origin))
}

function messageOf(item: unknown, at: string, origin: Origin): Message {
  if (typeof item !== 'object' || item === null)
    throw bad(origin, at, `must be an object, got ${kindOf(item)}`)
  const { from, value: text, ...rest } = messageFields(item)
  // ShareGPT: { from: 'human' | 'gpt' | ..., value }
  if (from !== undefined && rest.role === undefined) {
    const role = SHAREGPT_ROLES[String(from)]
    if (role === undefined) throw bad(origin, `${at}.from`, `has the unknown value ${JSON.stringify(from)}`)
    if (typeof text !== 'string') throw bad(origin, `${at}.value`, `must be a string, got ${kindOf(text)}`)
    return { ...rest, role, content: text }
  }
  const { role, content, train } = rest
  if (typeof role !== 'string' || role === '')
    throw bad(origin, `${at}.role`, `must be a string, got ${kindOf(role)}`)
  if (train !== undefined && typeof train !== 'boolean')
    throw bad(origin, `${at}.train`, 'must be true or false')
  const calls = Array.isArray(rest.tool_calls)
  if (typeof content !== 'string' && !(calls && (content === null || content === undefined)))
    throw bad(origin, `${at}.content`, `must be a string, got ${kindOf(content)}`)
  return { ...rest, role, content: content ?? '' }
}

/** Reads tool definitions, a list or JSON of one; undefined where there are none. */
export function toolsOf(value: unknown, origin: Origin): unknown[] | undefined {
  if (value === undefined || value === '') return undefined
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

/** Converts Alpaca's form to a conversation; templates can also read `instruction` and `input` separately. */
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
