import { PosttrainError } from '../errors.js'
import { bad, type Example, type Message, type Origin, readRow } from './rows.js'

/** A prompt with a better and a worse answer; texts, messages, or whole conversations that part at the end. */
export interface PreferenceRow {
  prompt?: string | Message[]
  instruction?: string
  input?: string
  chosen: string | Message | Message[]
  rejected: string | Message | Message[]
  /** By how much the better answer is better, for the reward model. */
  margin?: number
  [column: string]: unknown
}

/** A prompt with several answers, the best first. */
export interface RankingRow {
  prompt: string | Message[]
  responses: (string | Message[])[]
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

function fieldsOf(row: unknown, origin: Origin): Fields {
  if (typeof row === 'object' && row !== null && !Array.isArray(row)) return row as Fields
  throw new PosttrainError('ERR_DATA', `${origin.source}:${origin.line}: a row must be an object`)
}

const isMessage = (value: unknown): value is Fields => typeof value === 'object' && value !== null

/** What was asked, in the fields that training rows have for it, and an answer put in its place. */
function answered(fields: Fields, answer: unknown, field: string, origin: Origin): Example {
  const messages = Array.isArray(answer) ? answer : isMessage(answer) ? [answer] : null
  if (messages === null && typeof answer !== 'string')
    throw bad(origin, field, 'must be a text, a message or a list of messages')
  if (messages?.length === 0) throw bad(origin, field, 'must not be empty')
  const said = messages ?? [{ role: 'assistant', content: answer }]
  const conversation = fields.messages ?? fields.conversations
  if (Array.isArray(conversation))
    return lastOnly(readRow({ ...fields, messages: [...conversation, ...said] }, origin))
  if (fields.instruction !== undefined) {
    const { prompt: _, completion: __, ...rest } = fields
    if (typeof answer === 'string') return lastOnly(readRow({ ...rest, output: answer }, origin))
    const asked = readRow({ ...rest, output: '' }, origin)
    if (asked.kind !== 'messages') throw bad(origin, 'instruction', 'must be a text')
    return lastOnly(readRow({ messages: [...asked.messages.slice(0, -1), ...said] }, origin))
  }
  const { prompt } = fields
  if (typeof prompt === 'string' && messages === null) return readRow({ prompt, completion: answer }, origin)
  const asked = typeof prompt === 'string' ? [{ role: 'user', content: prompt }] : prompt
  // Whole conversations, with or without their beginning apart.
  const whole = said.length > 1
  if (asked === undefined || asked === null) {
    if (!whole) throw bad(origin, 'prompt', 'is missing: expected a text or a list of messages')
    return lastOnly(readRow({ messages: said, tools: fields.tools }, origin))
  }
  if (!Array.isArray(asked)) throw bad(origin, 'prompt', 'must be a text or a list of messages')
  const repeats = whole && JSON.stringify(said.slice(0, asked.length)) === JSON.stringify(asked)
  return lastOnly(readRow({ messages: repeats ? said : [...asked, ...said], tools: fields.tools }, origin))
}

/** Only the last answer is judged: earlier ones are part of the prompt. */
function lastOnly(example: Example): Example {
  if (example.kind !== 'messages') return example
  const last = example.messages.length - 1
  return {
    ...example,
    messages: example.messages.map((message, i) => (i === last ? message : { ...message, train: false })),
  }
}

/** `chosen` and `rejected`, or `responses` with the best first. Throws ERR_DATA naming file, line and field. */
export function readRanking(row: unknown, origin: Origin): Ranking {
  const fields = fieldsOf(row, origin)
  const { chosen, rejected, responses, margin = 0 } = fields
  if (typeof margin !== 'number' || !Number.isFinite(margin))
    throw bad(origin, 'margin', 'must be a finite number')
  if (responses !== undefined) {
    if (!Array.isArray(responses) || responses.length < 2)
      throw bad(origin, 'responses', 'must be a list of at least two answers, the best first')
    const answers = responses.map((answer: unknown, i) => answered(fields, answer, `responses[${i}]`, origin))
    return { answers, margin }
  }
  for (const [field, value] of Object.entries({ chosen, rejected }))
    if (value === undefined || value === null)
      throw bad(origin, field, 'is missing: expected chosen and rejected, or responses')
  return {
    answers: [answered(fields, chosen, 'chosen', origin), answered(fields, rejected, 'rejected', origin)],
    margin,
  }
}

/** An answer and whether it is a good one: `label`, or LLaMA-Factory's `kto_tag`. Throws ERR_DATA. */
export function readJudged(row: unknown, origin: Origin): { example: Example; desirable: boolean } {
  const fields = fieldsOf(row, origin)
  const label = fields.label ?? fields.kto_tag
  if (typeof label !== 'boolean') throw bad(origin, 'label', 'must be true or false')
  const example = readRow(row, origin)
  if (example.kind === 'text')
    throw bad(origin, 'text', 'is no answer: expected prompt + completion, instruction + output or messages')
  return { example: lastOnly(example), desirable: label }
}
