import {
  continued,
  conversationOf,
  promptOf,
  type RowResponse,
  sameMessage,
  sharedCount,
} from './conversations.js'
import { bad, type Fields, fieldsOf, kindOf, type Origin } from './fields.js'
import { type Message, toolsOf } from './messages.js'
import { type Example, readRow } from './rows.js'

/** A prompt with a chosen and a rejected response: texts, messages, or whole conversations that differ at the end. */
export interface PreferenceRow {
  prompt?: string | Message[]
  instruction?: string
  input?: string
  chosen: RowResponse
  rejected: RowResponse
  /** Margin of the chosen over the rejected score, for the reward model. */
  margin?: number
  [column: string]: unknown
}

/** A prompt with ranked responses, the best first. */
export interface RankingRow {
  prompt?: string | Message[]
  responses: RowResponse[]
  [column: string]: unknown
}

/** Responses to one prompt, the best first, each as its own example. */
export interface Preference {
  responses: Example[]
  /** Margin of the pairs; default 0. */
  margin: number
}

/** Reads conversations with a common prompt; throws where they differ before a response. */
function conversationsOf(fields: Fields, responses: readonly [string, unknown][], origin: Origin) {
  const prompt = promptOf(fields, origin)
  const conversations = responses.map(([field, response]) => conversationOf(prompt, response, field, origin))
  const shortest = Math.min(...conversations.map((messages) => messages.length))
  const shared = Math.min(sharedCount(conversations), shortest - 1)
  const parted = conversations.map((messages) => messages[shared]!)
  for (const [i, turn] of parted.entries()) {
    if (sameMessage(turn, parted[0]!) || (turn.role === 'assistant' && parted[0]!.role === 'assistant'))
      continue
    const [[first], [field]] = [responses[0]!, responses[i]!]
    throw bad(
      origin,
      field,
      `has another prompt than ${first}: turn ${shared + 1} of its conversation differs and is not a response in both`,
    )
  }
  return { conversations, shared }
}

/** Lists the responses of a row with their fields, the best first; null without any. */
function responsesOf(fields: Fields, origin: Origin): [string, unknown][] | null {
  const { chosen, rejected, responses } = fields
  if (chosen === undefined && rejected === undefined) {
    if (responses === undefined) return null
    if (!Array.isArray(responses) || responses.length < 2)
      throw bad(origin, 'responses', 'must be a list of at least two responses, the best first')
    return responses.map((response: unknown, i) => [`responses[${i}]`, response])
  }
  for (const [field, value] of Object.entries({ chosen, rejected }))
    if (value === undefined)
      throw bad(origin, field, 'is missing: expected chosen and rejected, or responses')
  return [
    ['chosen', chosen],
    ['rejected', rejected],
  ]
}

const isText = (value: unknown) => typeof value === 'string'

/** Reads `chosen` and `rejected`, or ranked `responses`. Throws ERR_DATA naming file, line and field. */
export function readPreference(row: unknown, origin: Origin): Preference {
  const fields = fieldsOf(row, origin)
  const { prompt, weight = 1, margin = 0 } = fields
  if (weight !== 1) throw bad(origin, 'weight', 'has no effect on preferences: leave it out')
  if (typeof margin !== 'number' || !Number.isFinite(margin))
    throw bad(
      origin,
      'margin',
      `must be a finite number, got ${typeof margin === 'number' ? margin : kindOf(margin)}`,
    )
  const responses = responsesOf(fields, origin)
  if (responses === null)
    throw bad(origin, 'chosen', 'is missing: expected chosen and rejected, or responses')
  const inMessages = ['messages', 'conversations', 'instruction'].some((name) => fields[name] !== undefined)
  if (isText(prompt) && !inMessages && responses.every(([, response]) => isText(response))) {
    const rows = responses.map(([, completion]) => readRow({ prompt, completion }, origin))
    return { responses: rows, margin }
  }
  const tools = toolsOf(fields.tools, origin)
  const { conversations, shared } = conversationsOf(fields, responses, origin)
  return { responses: conversations.map((messages) => continued(messages, shared, tools)), margin }
}

/**
 * Reads the prompt of a row whose `chosen` and `rejected` are messages, as `readPreference` does; null for any other
 * row. Throws ERR_DATA.
 */
export function preferencePrompt(
  fields: Fields,
  origin: Origin,
): { messages: Message[]; tools?: unknown[] } | null {
  const given = [fields.chosen, fields.rejected]
  if (given.some((response) => response === undefined) || given.every(isText)) return null
  const { weight: _, ...columns } = fields
  const { conversations, shared } = conversationsOf(columns, responsesOf(columns, origin)!, origin)
  const tools = toolsOf(columns.tools, origin)
  return { messages: conversations[0]!.slice(0, shared), ...(tools !== undefined && { tools }) }
}
