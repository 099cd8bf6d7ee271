import { besideOf, columnsOf, LISTS, numberIn, withSystem } from './columns.js'
import { continued, conversationOf, inContext, promptOf } from './conversations.js'
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
  const last = (messages: Message[]) => continued(messages, messages.length - 1, besideOf(fields, origin))
  const list = LISTS.find((name) => fields[name] !== undefined)
  if (list !== undefined || fields.instruction !== undefined) {
    const example = exampleOf(fields, origin)
    const messages = example.kind === 'messages' ? example.messages : []
    if (messages.at(-1)?.role === 'assistant') return last(messages)
    throw bad(origin, list ?? 'output', 'must end with the labeled response of the assistant')
  }
  if (prompt !== undefined && !(typeof prompt === 'string' && typeof completion === 'string'))
    return last(
      withSystem(conversationOf(promptOf(fields, origin), completion, 'completion', origin), fields, origin),
    )
  const example = exampleOf(fields, origin)
  if (example.kind !== 'text') return inContext(example)
  throw bad(
    origin,
    'text',
    'is not a response: expected prompt + completion, instruction + output or messages',
  )
}
