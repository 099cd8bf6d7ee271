import { isDeepStrictEqual } from 'node:util'
import { parsedCall } from './calls.js'
import { bad, type Origin } from './fields.js'
import { asOne, type Message } from './messages.js'

/** The last message of a prompt, where it is of the assistant: a response continues it. */
export interface Prefill {
  /** Place of the message in the conversation. */
  index: number
  /** The message as it is in the prompt. */
  message: Message
}

/** A conversation, and the turn in it that began in the prompt. */
export interface Continuation {
  messages: Message[]
  prefill?: Prefill
}

export const sameMessage = (a: Message, b: Message) =>
  a.role === b.role && a.content === b.content && sameCalls(a.tool_calls, b.tool_calls)

/** Whether calls are the same, of which one side may have its arguments as JSON text. */
const sameCalls = (a: unknown, b: unknown) =>
  isDeepStrictEqual(a, b) || isDeepStrictEqual(withParsed(a), withParsed(b))

const withParsed = (calls: unknown) => (Array.isArray(calls) ? calls.map(parsedCall) : calls)

/** Counts the messages that conversations share at their beginning. */
export function sharedCount(conversations: readonly Message[][], same = sameMessage): number {
  const [first = [], ...others] = conversations
  const at = first.findIndex((message, i) => !others.every((other) => other[i] && same(message, other[i]!)))
  return at < 0 ? first.length : at
}

/** Whether a conversation begins with messages. */
export const beginsWith = (whole: Message[], beginning: Message[]) =>
  sharedCount([beginning, whole]) === beginning.length

/**
 * A prompt and the response behind it. Where the prompt ends in a turn of the assistant and the response begins with one,
 * they are one turn. Throws ERR_DATA for a turn with tool calls, behind which no content can follow.
 */
export function followed(
  prompt: readonly Message[],
  response: readonly Message[],
  origin: Origin,
): Continuation {
  const [last, next] = [prompt.at(-1), response[0]]
  if (last?.role !== 'assistant' || next?.role !== 'assistant') return { messages: [...prompt, ...response] }
  const index = prompt.length - 1
  if (last.tool_calls !== undefined)
    throw bad(
      origin,
      `prompt[${index}]`,
      'has tool calls and cannot be continued: write the results of the tools behind it, or the turn into the response',
    )
  const { train: _, contentParts: _begun, ...begun } = last
  const { contentParts: _rest, ...rest } = next
  const message = begun as Message
  const whole = asOne(message, rest as Message)
  return { messages: [...prompt.slice(0, -1), whole, ...response.slice(1)], prefill: { index, message } }
}
