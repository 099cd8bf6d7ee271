import { type Beside, historyOf, refuse, withSystem } from './columns.js'
import { REASONING } from './content.js'
import { beginsWith, type Continuation, followed, sameMessage } from './continuation.js'
import { bad, dataOf, type Fields, isObject, kindOf, type Origin, text } from './fields.js'
import { withoutFiller } from './filler.js'
import { type Message, messagesIn, messagesOf } from './messages.js'
import { SYSTEM } from './roles.js'
import { type Example, exampleOf } from './rows.js'

/** A response in a row: a text, a message (also in ShareGPT's form), messages, or the whole conversation. */
export type RowResponse = string | Message | { from: string; value: string } | Message[]

/**
 * Reads the prompt of a row: messages, a text, or null where responses are whole conversations. Messages of a column that
 * holds a whole conversation may end in its response.
 */
export function promptOf(fields: Fields, origin: Origin): Message[] | string | null {
  const { prompt } = fields
  if (fields.messages !== undefined) {
    const example = exampleOf(fields, origin)
    return example.kind === 'messages' ? example.messages : null
  }
  if (fields.instruction !== undefined) {
    const example = exampleOf({ ...fields, output: '' }, origin)
    return example.kind === 'messages' ? example.messages.slice(0, -1) : null
  }
  if (typeof prompt === 'string') {
    const asked = text(fields, 'prompt', origin)
    const earlier = withSystem(historyOf(fields, origin), fields, origin)
    return earlier.length === 0 ? asked : [...earlier, { role: 'user', content: asked }]
  }
  refuse(fields, ['history'], 'messages', origin)
  if (prompt === undefined) return null
  if (!Array.isArray(prompt) && !isObject(prompt))
    throw bad(origin, 'prompt', `must be a text or messages, got ${kindOf(prompt)}`)
  const messages = Array.isArray(prompt)
    ? messagesOf(prompt, 'prompt', origin)
    : messagesIn(prompt, 'prompt', origin)
  return withSystem(messages, fields, origin)
}

/** Whether two messages are the same in their reasoning too. */
export const sameTurn = (a: Message, b: Message) =>
  sameMessage(a, b) && REASONING.every((name) => a[name] === b[name])

/** Whether a response is a whole conversation, its prompt included. */
export const isWhole = ([first]: readonly Message[]) => ['user', ...SYSTEM].includes(first?.role ?? '')

export function withoutResponse(messages: Message[]): Message[] {
  return messages.at(-1)?.role === 'assistant' ? messages.slice(0, -1) : messages
}

/** Reads a response: a text, a message or messages. */
export function responseMessages(response: unknown, field: string, origin: Origin): Message[] {
  if (typeof response === 'string') {
    dataOf(response, field, origin)
    return [{ role: 'assistant', content: response }]
  }
  if (Array.isArray(response)) return messagesOf(response, field, origin)
  if (isObject(response)) return messagesIn(response, field, origin)
  throw bad(origin, field, `must be a text, a message or a list of messages, got ${kindOf(response)}`)
}

/**
 * Returns the conversation that ends with a response. A response that begins with a user or system turn is a whole
 * conversation; the row's own prompt must then agree with its beginning. A prompt that ends in a turn of the assistant is
 * continued.
 */
export function conversationOf(
  fields: Fields,
  prompt: Message[] | string | null,
  response: unknown,
  field: string,
  origin: Origin,
): Continuation {
  const { messages, prefill } = joined(prompt, response, field, origin)
  const whole = withSystem(messages, fields, origin)
  const moved = whole.length - messages.length
  return {
    messages: whole,
    ...(prefill !== undefined && { prefill: { ...prefill, index: prefill.index + moved } }),
  }
}

function joined(
  prompt: Message[] | string | null,
  response: unknown,
  field: string,
  origin: Origin,
): Continuation {
  const messages = responseMessages(response, field, origin)
  if (messages.at(-1)!.role !== 'assistant')
    throw bad(
      origin,
      field,
      `must end with a response of the assistant, got a turn of ${messages.at(-1)!.role}`,
    )
  const before = Array.isArray(prompt) ? withoutResponse(prompt) : []
  if (!isWhole(messages)) {
    if (prompt === null)
      throw bad(
        origin,
        'prompt',
        `is missing: expected a text or messages, or a whole conversation in ${field}`,
      )
    if (typeof prompt === 'string') return { messages: [{ role: 'user', content: prompt }, ...messages] }
    return messages.length > prompt.length && beginsWith(messages, prompt)
      ? { messages }
      : followed(prompt, messages, origin)
  }
  const begun = Array.isArray(prompt) ? prompt.slice(before.length) : []
  const whole = wholeConversation(messages, before)
  const found = whole === null ? null : continuing(whole, before.length, begun[0])
  if (found !== null) return found
  throw bad(origin, field, 'is a conversation that does not begin with the prompt of the row')
}

/** A conversation that begins with a prompt, or with all of it but its system turn; null for another one. */
function wholeConversation(messages: Message[], prompt: Message[]): Message[] | null {
  if (beginsWith(messages, prompt)) return messages
  const [system, ...rest] = prompt
  if (system === undefined || !SYSTEM.includes(system.role) || SYSTEM.includes(messages[0]!.role)) return null
  return beginsWith(messages, rest) ? [system, ...messages] : null
}

/** A conversation whose turn at a place began in the prompt as `begun`, if given; null where it began otherwise. */
function continuing(messages: Message[], index: number, begun: Message | undefined): Continuation | null {
  const turn = messages[index]
  if (begun === undefined) return { messages }
  if (turn?.role !== 'assistant' || !turn.content.startsWith(begun.content)) return null
  // A whole turn of the prompt, with others behind it.
  if (sameMessage(turn, begun) && index < messages.length - 1) return { messages }
  return { messages, prefill: { index, message: begun } }
}

/** An example whose first `context` messages are the prompt: earlier responses among them are not trained. */
export function continued({ messages, prefill }: Continuation, context: number, beside: Beside): Example {
  return {
    kind: 'messages',
    ...(prefill !== undefined && prefill.index >= context && { prefill }),
    messages: withoutFiller(messages, beside.tools).map((message, i) =>
      i < context ? { ...message, train: false } : message,
    ),
    weight: 1,
    ...beside,
  }
}

/** Earlier responses beside a string prompt are not trained. */
export function inContext(example: Example): Example {
  if (example.kind !== 'completion' || example.earlier === undefined) return example
  return { ...example, earlier: example.earlier.map((message) => ({ ...message, train: false })) }
}
