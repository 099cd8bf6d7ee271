import { besideOf, labelOf, numberIn } from './columns.js'
import type { Continuation } from './continuation.js'
import { continued, conversationOf, inContext, isWhole, promptOf, responseMessages } from './conversations.js'
import { bad, type Fields, type Origin, shown } from './fields.js'
import type { Message } from './messages.js'
import { type Columns, columnsOf, withChosen } from './names.js'
import { preferenceIn } from './preference-rows.js'
import { type Example, exampleOf, refuseContext } from './rows.js'

/** A prompt with one labeled response: unpaired preference data. */
export interface UnpairedRow {
  prompt?: string | Message[]
  completion?: string | Message[]
  messages?: Message[]
  label: boolean
  [column: string]: unknown
}

/** A response, and whether it is a good one. */
export interface LabeledResponse {
  example: Example
  desirable: boolean
}

/**
 * Reads the labeled responses of a row: one with its label, or a pair, whose chosen response is a good one and whose
 * rejected one is not (as TRL's `unpair_preference_dataset`, which has a label beside a pair count for both of its
 * responses; here a false one is an error, since the columns say which is good). Throws ERR_DATA.
 */
export function labeledIn(columns: Columns): LabeledResponse[] {
  const pair = pairIn(columns)
  if (pair === null) return [unpairedIn(columns)]
  const { fields, at } = pair
  if (labelOf(fields) === false)
    throw bad(
      at,
      'label',
      'is false beside chosen and rejected, which say which response is good: leave it out',
    )
  const { responses } = preferenceIn(pair)
  return responses.map((example, i) => ({ example, desirable: i === 0 }))
}

/** The columns of a row with a pair; null for one with a labeled response, also where a pair is beside it. */
export function pairIn(columns: Columns): Columns | null {
  const isLabeled = labelOf(columns.fields) !== undefined
  const pair = isLabeled ? columns : withChosen(columns)
  const { chosen, rejected, completion, output } = pair.fields
  if (chosen === undefined || rejected === undefined) return null
  return isLabeled && (completion ?? output) !== undefined ? null : pair
}

/** Reads a response with its label: `label`, or LLaMA-Factory's `kto_tag`. Throws ERR_DATA. */
export const readUnpaired = (row: unknown, origin: Origin): LabeledResponse =>
  unpairedIn(columnsOf(row, origin))

function unpairedIn({ fields, at }: Columns): LabeledResponse {
  const { weight = 1, label } = fields
  if (numberIn(weight) !== 1) throw bad(at, 'weight', 'has no effect on unpaired responses: leave it out')
  const desirable = labelOf(fields)
  if (desirable === undefined) throw bad(at, 'label', `must be true or false, got ${shown(label)}`)
  refuseContext(fields, at)
  return { example: responseExample(fields, at), desirable }
}

function responseExample(fields: Fields, origin: Origin): Example {
  const { prompt, completion, messages: list, instruction } = fields
  const beside = besideOf(fields, origin)
  if (list !== undefined || instruction !== undefined) {
    const example = exampleOf(fields, origin)
    const messages = example.kind === 'messages' ? example.messages : []
    if (messages.at(-1)?.role === 'assistant') return continued({ messages }, messages.length - 1, beside)
    throw bad(
      origin,
      list === undefined ? 'output' : 'messages',
      'must end with the labeled response of the assistant',
    )
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
