import { besideOf, columnsOf, LISTS, numberIn } from './columns.js'
import type { Continuation } from './continuation.js'
import { continued, conversationOf, inContext, isWhole, promptOf, responseMessages } from './conversations.js'
import { bad, type Fields, kindOf, type Origin } from './fields.js'
import type { Message } from './messages.js'
import { type Example, exampleOf } from './rows.js'

/** A prompt with one labeled response: unpaired preference data. */
export interface UnpairedRow {
  prompt?: string | Message[]
  completion?: string | Message[]
  messages?: Message[]
  label: boolean
  [column: string]: unknown
}

/** Reads a response with its label: `label`, or LLaMA-Factory's `kto_tag`. Throws ERR_DATA. */
export function readUnpaired(row: unknown, origin: Origin): { example: Example; desirable: boolean } {
  const fields = columnsOf(row, origin)
  const { weight = 1 } = fields
  if (numberIn(weight) !== 1) throw bad(origin, 'weight', 'has no effect on unpaired responses: leave it out')
  const desirable = fields.label ?? fields.kto_tag
  if (typeof desirable !== 'boolean')
    throw bad(origin, 'label', `must be true or false, got ${kindOf(desirable)}`)
  return { example: responseExample(fields, origin), desirable }
}

function responseExample(fields: Fields, origin: Origin): Example {
  const { prompt, completion } = fields
  const beside = besideOf(fields, origin)
  const list = LISTS.find((name) => fields[name] !== undefined)
  if (list !== undefined || fields.instruction !== undefined) {
    const example = exampleOf(fields, origin)
    const messages = example.kind === 'messages' ? example.messages : []
    if (messages.at(-1)?.role === 'assistant') return continued({ messages }, messages.length - 1, beside)
    throw bad(origin, list ?? 'output', 'must end with the labeled response of the assistant')
  }
  if (prompt !== undefined && !(typeof prompt === 'string' && typeof completion === 'string')) {
    const asked = promptOf(fields, origin)
    const whole = conversationOf(fields, asked, completion, 'completion', origin)
    return continued(whole, contextOf(asked, completion, whole, origin), beside)
  }
  const example = exampleOf(fields, origin)
  if (example.kind !== 'text') return inContext(example)
  throw bad(
    origin,
    'text',
    'is not a response: expected prompt + completion, instruction + output or messages',
  )
}

/** Count of the messages before a response; of a whole conversation, its last turn is the response. */
function contextOf(
  prompt: Message[] | string | null,
  completion: unknown,
  { messages, prefill }: Continuation,
  origin: Origin,
): number {
  if (prefill !== undefined) return prefill.index
  const response = responseMessages(completion, 'completion', origin)
  if (!isWhole(response)) return messages.length - response.length
  return Array.isArray(prompt) ? Math.min(prompt.length, messages.length - 1) : messages.length - 1
}
