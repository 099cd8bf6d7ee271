import { isDeepStrictEqual } from 'node:util'
import { PosttrainError } from '../../errors.js'
import { bad, type Example, kindOf, type Message, messagesOf, type Origin, readRow, toolsOf } from './rows.js'

/** An answer: a text, a message (ShareGPT's `from` and `value` too), messages, or the whole conversation. */
export type Answer = string | Message | { from: string; value: string } | Message[]

/** A prompt with a better and a worse answer; texts, messages, or whole conversations that part at the end. */
export interface PreferenceRow {
  prompt?: string | Message[]
  instruction?: string
  input?: string
  chosen: Answer
  rejected: Answer
  /** By how much the better answer is better, for the reward model. */
  margin?: number
  [column: string]: unknown
}

/** A prompt with several answers, the best first. */
export interface RankingRow {
  prompt?: string | Message[]
  responses: Answer[]
  [column: string]: unknown
}

/** An answer with a thumb up or down. */
export interface JudgedRow {
  prompt?: string | Message[]
  completion?: string | Message[]
  messages?: Message[]
  label: boolean
  [column: string]: unknown
}

type Fields = Record<string, unknown>

/** The answers to one prompt, the best first, each as a row of its own. */
export interface Ranking {
  answers: Example[]
  /** Of a pair; 0 where none is given. */
  margin: number
}

/** The columns of a row; files that were made from tables have null where a column has no value. */
function fieldsOf(row: unknown, origin: Origin): Fields {
  if (typeof row !== 'object' || row === null || Array.isArray(row))
    throw new PosttrainError(
      'ERR_DATA',
      `${origin.source}:${origin.line}: a row must be an object, got ${kindOf(row)}`,
    )
  const fields = Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null))
  if (fields.weight !== undefined && fields.weight !== 1)
    throw bad(origin, 'weight', 'has no effect on judged answers: leave it out')
  return fields
}

/** What was asked: messages, a text that stands alone, or null where answers are whole conversations. */
function askedOf(fields: Fields, origin: Origin): Message[] | string | null {
  const { prompt } = fields
  if (fields.messages !== undefined || fields.conversations !== undefined) {
    const example = readRow(fields, origin)
    return example.kind === 'messages' ? example.messages : null
  }
  if (fields.instruction !== undefined) {
    const example = readRow({ ...fields, output: '' }, origin)
    return example.kind === 'messages' ? example.messages.slice(0, -1) : null
  }
  if (prompt === undefined || typeof prompt === 'string') return prompt ?? null
  if (!Array.isArray(prompt)) throw bad(origin, 'prompt', `must be a text or messages, got ${kindOf(prompt)}`)
  return messagesOf(prompt, 'prompt', origin)
}

const same = (a: Message, b: Message) =>
  a.role === b.role && a.content === b.content && isDeepStrictEqual(a.tool_calls, b.tool_calls)

/** How many messages several conversations have in common before they part. */
function sharedCount(conversations: readonly Message[][]): number {
  const [first = [], ...others] = conversations
  const at = first.findIndex((message, i) => !others.every((other) => other[i] && same(message, other[i]!)))
  return at < 0 ? first.length : at
}

const beginsWith = (whole: Message[], beginning: Message[]) =>
  sharedCount([beginning, whole]) === beginning.length

function withoutAnswer(messages: Message[]): Message[] {
  return messages.at(-1)?.role === 'assistant' ? messages.slice(0, -1) : messages
}

function answerMessages(answer: unknown, field: string, origin: Origin): Message[] {
  if (typeof answer === 'string') return [{ role: 'assistant', content: answer }]
  if (Array.isArray(answer)) return messagesOf(answer, field, origin)
  if (typeof answer === 'object' && answer !== null) return messagesOf([answer], field, origin)
  throw bad(origin, field, `must be a text, a message or a list of messages, got ${kindOf(answer)}`)
}

/**
 * The conversation that ends with an answer. An answer that begins with a user's or a system's turn is a whole
 * conversation; what else the row has of it then says nothing new, and must agree.
 */
function conversationOf(
  asked: Message[] | string | null,
  answer: unknown,
  field: string,
  origin: Origin,
): Message[] {
  const said = answerMessages(answer, field, origin)
  if (said.at(-1)!.role !== 'assistant')
    throw bad(origin, field, `must end with an answer of the assistant, got a turn of ${said.at(-1)!.role}`)
  const before = Array.isArray(asked) ? withoutAnswer(asked) : []
  const whole = ['user', 'system'].includes(said[0]!.role)
  if (!whole) {
    if (asked === null)
      throw bad(
        origin,
        'prompt',
        `is missing: expected a text or messages, or a whole conversation in ${field}`,
      )
    if (typeof asked === 'string') return [{ role: 'user', content: asked }, ...said]
    return said.length > asked.length && beginsWith(said, asked) ? said : [...asked, ...said]
  }
  if (beginsWith(said, before)) return said
  const [system, ...rest] = before
  if (system?.role === 'system' && said[0]!.role !== 'system' && beginsWith(said, rest))
    return [system, ...said]
  throw bad(origin, field, 'is a conversation that does not begin with the prompt of the row')
}

/** Conversations that have a prompt in common; throws where they part before anything was answered. */
function conversationsOf(fields: Fields, answers: readonly [string, unknown][], origin: Origin) {
  const asked = askedOf(fields, origin)
  const conversations = answers.map(([field, answer]) => conversationOf(asked, answer, field, origin))
  const shortest = Math.min(...conversations.map((messages) => messages.length))
  const shared = Math.min(sharedCount(conversations), shortest - 1)
  const parted = conversations.map((messages) => messages[shared]!)
  for (const [i, turn] of parted.entries()) {
    if (same(turn, parted[0]!) || (turn.role === 'assistant' && parted[0]!.role === 'assistant')) continue
    const [[first], [field]] = [answers[0]!, answers[i]!]
    throw bad(
      origin,
      field,
      `answers something else than ${first}: turn ${shared + 1} of its conversation differs, and is no answer in both`,
    )
  }
  return { conversations, shared }
}

/** What stands before the answers that are compared is part of the prompt; answers of it are not trained again. */
function judgedFrom(messages: Message[], shared: number, tools: unknown[] | undefined): Example {
  return {
    kind: 'messages',
    messages: messages.map((message, i) => (i < shared ? { ...message, train: false } : message)),
    weight: 1,
    ...(tools !== undefined && { tools }),
  }
}

/** The answers of a row by their fields, the best first; null where there are none. */
function answersOf(fields: Fields, origin: Origin): [string, unknown][] | null {
  const { chosen, rejected, responses } = fields
  if (chosen === undefined && rejected === undefined) {
    if (responses === undefined) return null
    if (!Array.isArray(responses) || responses.length < 2)
      throw bad(origin, 'responses', 'must be a list of at least two answers, the best first')
    return responses.map((answer: unknown, i) => [`responses[${i}]`, answer])
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

/** `chosen` and `rejected`, or `responses` with the best first. Throws ERR_DATA naming file, line and field. */
export function readRanking(row: unknown, origin: Origin): Ranking {
  const fields = fieldsOf(row, origin)
  const { prompt, margin = 0 } = fields
  if (typeof margin !== 'number' || !Number.isFinite(margin))
    throw bad(
      origin,
      'margin',
      `must be a finite number, got ${typeof margin === 'number' ? margin : kindOf(margin)}`,
    )
  const answers = answersOf(fields, origin)
  if (answers === null) throw bad(origin, 'chosen', 'is missing: expected chosen and rejected, or responses')
  const inMessages = ['messages', 'conversations', 'instruction'].some((name) => fields[name] !== undefined)
  if (isText(prompt) && !inMessages && answers.every(([, answer]) => isText(answer))) {
    const rows = answers.map(([, completion]) => readRow({ prompt, completion }, origin))
    return { answers: rows, margin }
  }
  const tools = toolsOf(fields.tools, origin)
  const { conversations, shared } = conversationsOf(fields, answers, origin)
  return { answers: conversations.map((messages) => judgedFrom(messages, shared, tools)), margin }
}

/**
 * What was asked in a row whose answers are messages, as `readRanking` understands it; null for any other row. Throws
 * ERR_DATA.
 */
export function rankedPrompt(
  row: unknown,
  origin: Origin,
): { messages: Message[]; tools?: unknown[] } | null {
  const { chosen, rejected } = (row ?? {}) as Fields
  const given = [chosen, rejected]
  if (given.some((answer) => answer === undefined || answer === null) || given.every(isText)) return null
  const fields = fieldsOf({ ...(row as Fields), weight: null }, origin)
  const { conversations, shared } = conversationsOf(fields, answersOf(fields, origin)!, origin)
  const tools = toolsOf(fields.tools, origin)
  return { messages: conversations[0]!.slice(0, shared), ...(tools !== undefined && { tools }) }
}

/** An answer and whether it is a good one: `label`, or LLaMA-Factory's `kto_tag`. Throws ERR_DATA. */
export function readJudged(row: unknown, origin: Origin): { example: Example; desirable: boolean } {
  const fields = fieldsOf(row, origin)
  const { prompt, completion, messages, conversations, instruction } = fields
  const desirable = fields.label ?? fields.kto_tag
  if (typeof desirable !== 'boolean')
    throw bad(origin, 'label', `must be true or false, got ${kindOf(desirable)}`)
  const list = messages !== undefined ? 'messages' : 'conversations'
  let said: Message[]
  if (messages !== undefined || conversations !== undefined || instruction !== undefined) {
    const example = readRow(fields, origin)
    said = example.kind === 'messages' ? example.messages : []
    if (said.at(-1)?.role !== 'assistant')
      throw bad(origin, list, 'must end with the answer of the assistant that is judged')
  } else if (prompt === undefined || (isText(prompt) && isText(completion))) {
    const example = readRow(fields, origin)
    if (example.kind === 'text')
      throw bad(
        origin,
        'text',
        'is no answer: expected prompt + completion, instruction + output or messages',
      )
    return { example, desirable }
  } else said = conversationOf(askedOf(fields, origin), completion, 'completion', origin)
  return { example: judgedFrom(said, said.length - 1, toolsOf(fields.tools, origin)), desirable }
}
