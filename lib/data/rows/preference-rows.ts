import { missing } from './advice.js'
import { type Beside, besideOf, conversation, numberIn } from './columns.js'
import { DIALOG, splitCommonStart } from './common-start.js'
import { type Continuation, sameMessage, sharedCount } from './continuation.js'
import {
  continued,
  conversationOf,
  inContext,
  isWhole,
  promptOf,
  type RowResponse,
  responseMessages,
  sameTurn,
  withoutResponse,
} from './conversations.js'
import {
  bad,
  type Fields,
  isEmpty,
  isObject,
  kindOf,
  nameIn,
  type Origin,
  text,
  withoutNulls,
} from './fields.js'
import type { Message } from './messages.js'
import { type Columns, columnsOf, withChosen } from './names.js'
import { type Example, exampleOf, refuseContext, type StringColumns, stringColumns } from './rows.js'

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
  /** Score of each response, the best highest: responses are then in any order. */
  scores?: number[]
  /** Rank of each response, the best 1: responses are then in any order. */
  ranks?: number[]
  [column: string]: unknown
}

/** Responses to one prompt, the best first, each as its own example. */
export interface Preference {
  responses: Example[]
  /** Whether each has a prompt of its own. */
  apart: boolean
  /** Margin of the pairs; default 0. */
  margin: number
  /** Scores of the responses, from the column `scores` or `ranks`; equal ones make no pair. */
  scores?: readonly number[]
}

/**
 * Reads conversations with a common prompt. Where they differ before a response each has a prompt of its own (`shared` is
 * null), or with `apart: false` it throws.
 */
function conversationsOf(
  fields: Fields,
  responses: readonly [string, unknown][],
  origin: Origin,
  apart: boolean,
) {
  const prompt = promptBefore(fields, responses, origin)
  const conversations = responses.map(([field, response]) =>
    conversationOf(fields, prompt, response, field, origin),
  )
  const all = conversations.map(({ messages }) => messages)
  const shortest = Math.min(...all.map(({ length }) => length))
  const starts = conversations.map(({ prefill }) => prefill?.index ?? shortest)
  const shared = Math.min(sharedCount(all, sameTurn), shortest - 1, ...starts)
  const parted = all.map((messages) => messages[shared]!)
  for (const [i, turn] of parted.entries()) {
    if (sameTurn(turn, parted[0]!) || (turn.role === 'assistant' && parted[0]!.role === 'assistant')) continue
    if (apart) return { conversations, shared: null }
    const [[first], [field]] = [responses[0]!, responses[i]!]
    throw bad(
      origin,
      field,
      `has another prompt than ${first}: turn ${shared + 1} of its conversation differs and is not a response in both`,
    )
  }
  return { conversations, shared }
}

/** Prompt of the responses. The answer that ends a whole conversation beside them must be one of them. */
function promptBefore(fields: Fields, responses: readonly [string, unknown][], origin: Origin) {
  const prompt = promptOf(fields, origin)
  const said = Array.isArray(prompt) && fields.messages !== undefined ? prompt.at(-1) : undefined
  if (!Array.isArray(prompt) || said?.role !== 'assistant') return prompt
  const before = withoutResponse(prompt)
  const own = responses.some(([field, response]) => {
    const messages = responseMessages(response, field, origin)
    return isWhole(messages) || sameMessage(messages.at(-1)!, said)
  })
  if (own) return before
  throw bad(
    origin,
    'messages',
    'ends in a turn of the assistant that is none of the responses: remove it, or write what they continue into prompt',
  )
}

const PAIR = 'chosen and rejected, or responses'

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
    if (value === undefined) throw missing(field, PAIR, fields, origin)
  return [
    ['chosen', chosen],
    ['rejected', rejected],
  ]
}

const isText = (value: unknown) => typeof value === 'string'

/** Scores of the responses, higher is better; undefined where they stand in the order of their ranks. */
function scoresOf(fields: Fields, count: number, origin: Origin): number[] | undefined {
  const [name, other] = ['scores', 'ranks'].filter((name) => !isEmpty(fields[name]))
  if (name === undefined || fields.responses === undefined) return undefined
  if (other !== undefined)
    throw bad(origin, other, `and ${nameIn(origin, name)} both order the responses: leave one out`)
  const given = fields[name]
  const values = Array.isArray(given) ? given.map(numberIn) : []
  if (values.length !== count || values.includes(undefined))
    throw bad(
      origin,
      name,
      `must be a list of ${count} numbers, one for each response: leave responses without one out, or rename the column if it is no order`,
    )
  return (values as number[]).map((value) => (name === 'scores' ? value : -value))
}

/** Names of what may say in which order responses are. */
const ORDER = /rank|scor|rating|reward|label|prefer/i

/** Throws ERR_DATA for numbers that may order the responses otherwise than they stand. */
function refuseOrder(fields: Fields, origin: Origin): void {
  const { responses } = fields
  if (!Array.isArray(responses) || !isEmpty(fields.scores) || !isEmpty(fields.ranks)) return
  const advice = 'may say which response is best: write scores or ranks, or leave it out'
  const isNumbers = (value: unknown) =>
    Array.isArray(value) &&
    value.length === responses.length &&
    value.every((item) => numberIn(item) !== undefined)
  const column = Object.keys(fields).find((name) => ORDER.test(name) && isNumbers(fields[name]))
  if (column !== undefined) throw bad(origin, column, advice)
  for (const [i, response] of responses.entries()) {
    const own = isObject(response) ? withoutNulls(response) : {}
    const name = Object.keys(own).find((name) => ORDER.test(name) && numberIn(own[name]) !== undefined)
    if (name !== undefined) throw bad(origin, `responses[${i}].${name}`, advice)
  }
}

/**
 * Columns of a row whose texts are whole dialogs with a common start: the start becomes the prompt, where the row has not
 * its own. With `apart` texts without a common start have an empty one.
 */
function withCommonStart(fields: Fields, origin: Origin, apart: boolean): Fields {
  const { prompt, chosen, rejected } = fields
  if (holdPrompt(fields)) {
    const [begun, better, worse] = [prompt, chosen, rejected] as [string, string, string]
    return { ...fields, chosen: better.slice(begun.length), rejected: worse.slice(begun.length) }
  }
  if (prompt !== undefined || inMessages(fields) || !isText(chosen) || !isText(rejected)) return fields
  const [better, worse] = [text(fields, 'chosen', origin), text(fields, 'rejected', origin)]
  const split = splitCommonStart(better, worse)
  if (split === null) {
    if (apart) return { ...fields, prompt: '' }
    throw bad(origin, 'prompt', 'is missing, and chosen and rejected have no common start that could be it')
  }
  const [end, otherEnd] = split.ends
  return { ...fields, prompt: split.prompt, chosen: end, rejected: otherEnd }
}

/** Whether both responses are dialogs that begin with the prompt, which is one too. */
function holdPrompt({ prompt, chosen, rejected }: Fields): boolean {
  if (typeof prompt !== 'string' || !DIALOG.test(prompt)) return false
  return [chosen, rejected].every((text) => typeof text === 'string' && text.startsWith(prompt))
}

const inMessages = ({ messages, instruction }: Fields) => messages !== undefined || instruction !== undefined

/**
 * Reads `chosen` and `rejected`, or ranked `responses`; with `apart` each may have a prompt of its own, which a reward
 * model alone can compare. Throws ERR_DATA naming file, line and field.
 */
export const readPreference = (row: unknown, origin: Origin, options?: { apart?: boolean }): Preference =>
  preferenceIn(columnsOf(row, origin), options)

/** `readPreference` for the columns of a row. */
export function preferenceIn(columns: Columns, { apart = false } = {}): Preference {
  const { fields, at } = withChosen(columns)
  refuseContext(fields, at)
  refuseOrder(fields, at)
  return readFields(fields, at, apart)
}

function readFields(columns: Fields, origin: Origin, apart: boolean): Preference {
  const fields = withCommonStart(columns, origin, apart)
  const { prompt, weight = 1 } = fields
  if (numberIn(weight) !== 1) throw bad(origin, 'weight', 'has no effect on preferences: leave it out')
  const margin = fields.margin === undefined ? 0 : numberIn(fields.margin)
  if (margin === undefined) throw bad(origin, 'margin', `must be a finite number, got ${got(fields.margin)}`)
  const responses = responsesOf(fields, origin)
  if (responses === null) throw missing('chosen', PAIR, fields, origin)
  const scores = scoresOf(fields, responses.length, origin)
  if (scores !== undefined) {
    const order = [...scores.keys()].sort((a, b) => scores[b]! - scores[a]!)
    const inOrder = {
      ...columns,
      responses: order.map((i) => responses[i]![1]),
      scores: undefined,
      ranks: undefined,
    }
    return { ...readFields(inOrder, origin, apart), scores: order.map((i) => scores[i]!) }
  }
  if (isText(prompt) && !inMessages(fields) && responses.every(([, response]) => isText(response))) {
    const rows = responses.map(([name]) => inContext(textResponse(fields, name, origin)))
    const whole = fields !== columns
    return { responses: whole ? rows.map(dialogOf) : rows, apart: whole && prompt === '', margin }
  }
  const beside = besideOf(fields, origin)
  const { conversations, shared } = conversationsOf(fields, responses, origin, apart)
  const examples = conversations.map((each) => {
    const context = shared ?? each.prefill?.index ?? each.messages.length - 1
    return continued(each, context, beside)
  })
  return { responses: examples, apart: shared === null, margin }
}

/** Marks an example whose texts are a dialog with turns of its own. */
const dialogOf = (example: Example): Example =>
  example.kind === 'completion' ? { ...example, dialog: true } : example

const got = (value: unknown) => (typeof value === 'number' ? value : kindOf(value))

/** The response in a column, or in the list `responses`, after a prompt that is a text. */
function textResponse(fields: Fields, name: string, origin: Origin): Example {
  const [, place] = /^responses\[(\d+)\]$/.exec(name) ?? []
  const completion = place === undefined ? fields[name] : (fields.responses as unknown[])[Number(place)]
  text({ [name]: completion }, name, origin)
  return exampleOf({ ...fields, completion, weight: 1 }, origin)
}

/**
 * Reads the prompt of a row with `chosen` and `rejected`, as `readPreference` does; null for a row that has its prompt
 * in a column of its own. Throws ERR_DATA.
 */
export function preferencePrompt(
  columns: Fields,
  origin: Origin,
): ({ text: string } & StringColumns) | ({ messages: Message[] } & Beside) | null {
  if (columns.chosen === undefined || columns.rejected === undefined) return null
  const { weight: _, ...fields } = withCommonStart(columns, origin, false)
  if (isText(fields.chosen) && isText(fields.rejected))
    return fields.prompt === columns.prompt
      ? null
      : { text: fields.prompt as string, ...stringColumns(fields, origin), dialog: true }
  const { conversations, shared } = conversationsOf(fields, responsesOf(fields, origin)!, origin, false)
  const [{ messages, prefill }] = conversations as [Continuation]
  const begun = prefill?.index === shared ? [prefill!.message] : []
  return conversation([...messages.slice(0, shared!), ...begun], fields, origin)
}
