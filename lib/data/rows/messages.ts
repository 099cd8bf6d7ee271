import { unified } from './agents/index.js'
import type { Placed } from './agents/turns.js'
import { type Content, contentOf, REASONING, type TextPart } from './content.js'
import { parseJson, plainOf } from './exact-json.js'
import {
  bad,
  dataIn,
  dataOf,
  type Fields,
  isEmpty,
  isObject,
  kindOf,
  type Origin,
  withoutNulls,
} from './fields.js'
import type { JsonData } from './json-data.js'
import { CALLS, knownRole, speakerOf } from './roles.js'
import { callsIn, callsOf, isNone } from './tools.js'
import { refuseTrained, unmasked } from './turn-mask.js'

/** One turn of a conversation. */
export interface Message {
  role: string
  content: string
  /** `false` excludes an assistant turn from training. */
  train?: boolean
  /** The parts that `content` was joined from, where it was a list of parts; for templates that take parts. */
  contentParts?: readonly TextPart[]
  /** `content` is empty because the row has null or nothing there, beside tool calls; for templates that expect null. */
  noContent?: true
  /** Any other field that the chat template reads. */
  [key: string]: unknown
}

/** Reads messages with `role` and `content`, in the form of ShareGPT or of an agent, or JSON of them; errors name the field. */
export function messagesOf(value: unknown, field: string, origin: Origin): Message[] {
  const expected = 'must be a list of messages, or JSON of one'
  const list = typeof value === 'string' ? dataIn(value, field, origin, expected) : value
  if (!Array.isArray(list) || list.length === 0)
    throw bad(origin, field, 'must be a list of at least one message')
  return turnsOf(turnsIn(list, field, origin), field, origin)
}

/** Reads one message, which may hold several turns. */
export const messagesIn = (item: unknown, at: string, origin: Origin): Message[] =>
  turnsOf([{ item, at }], at, origin)

function turnsOf(list: readonly Placed[], field: string, origin: Origin): Message[] {
  const messages: Message[] = []
  for (const { item, at } of unified(list, origin)) {
    const { message, isCall } = messageOf(item, at, origin)
    const before = messages.at(-1)
    if (isCall && before?.role === 'assistant')
      messages[messages.length - 1] = joined(before, message, at, origin)
    else messages.push(message)
  }
  if (messages.length === 0) throw bad(origin, field, 'holds no turn with a text or a call')
  return messages
}

/** Fields that hold a question and its answer. */
const PAIRS = [
  ['input', 'output'],
  ['user', 'assistant'],
  ['human', 'assistant'],
] as const

/** Messages of a list with their places; texts, and pairs of a question and its answer, become turns by turns. */
function turnsIn(list: readonly unknown[], field: string, origin: Origin): Placed[] {
  const said = (place: number, content: unknown) => ({
    role: place % 2 === 0 ? 'user' : 'assistant',
    content,
  })
  if (list.every((item) => typeof item === 'string')) {
    const messages = list.map(messageInText)
    const at = (i: number) => `${field}[${i}]`
    if (messages.every((item) => item !== undefined)) return messages.map((item, i) => ({ item, at: at(i) }))
    const text = messages.indexOf(undefined)
    if (messages.some((item) => item !== undefined))
      throw bad(origin, at(text), 'is a text beside messages in JSON: write all of them in one form')
    // Lists of texts in other columns may hold responses.
    if (field === 'messages') return list.map((text, i) => ({ item: said(i, text), at: at(i) }))
  }
  return list.flatMap((item, i): Placed[] => {
    const at = `${field}[${i}]`
    const fields = isObject(item) ? withoutNulls(item) : {}
    const pair = PAIRS.find((names) => names.every((name) => typeof fields[name] === 'string'))
    if (pair === undefined || fields.role !== undefined || fields.from !== undefined) return [{ item, at }]
    return pairTurns(fields, pair, at, origin)
  })
}

/** Fields beside a question and its answer that are of the answer. */
const OF_ANSWERS = [...REASONING, 'tool_calls', 'function_call', 'refusal']

/** The turns of a question and its answer, with the system turn before them. */
function pairTurns(fields: Fields, [asked, said]: readonly [string, string], at: string, origin: Origin) {
  const { [asked]: question, [said]: answer, system, ...others } = fields
  const { train, rest } = unmasked(others, at, origin)
  const entries = Object.entries(rest).filter(([name, value]) => !isNote(name, value))
  const [left] = entries.find(([name]) => !OF_ANSWERS.includes(name)) ?? []
  if (left !== undefined)
    throw bad(origin, `${at}.${left}`, `has no place beside ${asked} and ${said}: leave it out`)
  const more = Object.fromEntries(entries)
  const turn = (role: string, name: string, content: unknown, beside: object): Placed[] =>
    isEmpty(content) && (role !== 'assistant' || isEmpty(more))
      ? []
      : [{ item: { role, content, ...beside }, at: `${at}.${name}` }]
  return [
    ...turn('system', 'system', system, {}),
    ...turn('user', asked, question, {}),
    ...turn('assistant', said, answer, { ...more, ...(train !== undefined && { train }) }),
  ]
}

/** Whether a field beside a question and its answer says nothing: it is empty, a number, true or an id. */
const isNote = (name: string, value: unknown) =>
  isEmpty(value) || value === true || kindOf(value) === 'a number' || /(^|_)id$/.test(name)

/** One turn of a turn of the assistant and the calls that follow it. */
function joined(said: Message, called: Message, at: string, origin: Origin): Message {
  if (said.train !== called.train && (said.train ?? true) !== (called.train ?? true))
    throw bad(origin, at, 'belongs to the turn before it, of which only one part is trained')
  const calls = [said, called].flatMap(({ tool_calls: calls }) => (calls ?? []) as unknown[])
  return { ...asOne(said, called), tool_calls: calls }
}

/** The message that two of one turn are: the content of the second follows that of the first. */
export function asOne(first: Message, second: Message): Message {
  const { noContent: _, contentParts: _parts, ...turn } = { ...first, ...second }
  const content = first.content + second.content
  const parts = [first, second].find((each) => each.content === content)?.contentParts
  return {
    ...turn,
    content,
    ...(parts !== undefined && { contentParts: parts }),
    ...(content === '' && second.noContent === true && { noContent: true }),
  }
}

/**
 * Fields of a message that hold its text: in ShareGPT's form `value`, in mistral-finetune's also `text`, in Gemini's
 * `parts`.
 */
const TEXTS = ['content', 'value', 'text', 'parts', 'message', 'utterance']
/** Fields of a message that hold its calls: `function_call` is that of OpenAI's older API. */
const CALL_FIELDS = ['tool_calls', 'function_call']

/** The messages in a text of JSON, each with a known role and a text or calls; undefined for another text. */
export function messagesInText(text: unknown): readonly unknown[] | undefined {
  if (typeof text !== 'string' || !/^\s*\[\s*\{/.test(text)) return undefined
  const list = parsed(text)
  return Array.isArray(list) && list.every(isMessage) ? list : undefined
}

/** The message in a text of JSON; undefined for another text. */
export function messageInText(text: unknown): JsonData | undefined {
  if (typeof text !== 'string' || !/^\s*\{/.test(text)) return undefined
  const item = parsed(text)
  return isMessage(item) ? item : undefined
}

function parsed(text: string): JsonData | undefined {
  try {
    return parseJson(text).exact
  } catch {
    return undefined
  }
}

/** Whether a value is a message with a known role and a text or calls. */
export function isMessage(item: unknown): boolean {
  const fields = isObject(item) ? withoutNulls(item, ['content']) : {}
  const speaker = fields.role ?? fields.from
  if (typeof speaker !== 'string' || knownRole(speaker) === undefined) return false
  return [...TEXTS, ...CALL_FIELDS].some((name) => fields[name] !== undefined)
}

function messageOf(item: unknown, at: string, origin: Origin): { message: Message; isCall: boolean } {
  if (!isObject(item)) throw bad(origin, at, `must be an object, got ${kindOf(item)}`)
  // Tables give every message the fields that any has, and templates check whether `tool_calls` is defined.
  const fields = withoutNulls(dataOf(item, at, origin) as object, ['content'])
  const { train: own, rest } = unmasked(fields, at, origin)
  const { speaker, role } = speakerOf(rest, at, origin)
  if (!isEmpty(rest.replies))
    throw bad(origin, `${at}.replies`, 'makes a tree of messages: write each conversation as a row')
  const isCall = CALLS.has(role)
  const filled = TEXTS.find((name) => !isEmpty(rest[name]))
  const text = filled ?? TEXTS.find((name) => rest[name] != null) ?? 'content'
  if (text === 'content' && !isEmpty(rest.value) && rest.value !== rest.content)
    throw bad(origin, `${at}.value`, 'differs from content: leave one out')
  const body: Body = isCall
    ? callsIn(rest[text] ?? null, `${at}.${text}`, origin)
    : bodyOf(rest, text, at, origin)
  const train = own ?? body.train
  if (role !== 'assistant' && !isCall) refuseTrained(fields, at, origin)
  // Fields stay in their places, since a template may write the whole message.
  const renamed = Object.entries(rest).flatMap(([name, value]): [string, unknown][] => {
    if (name === speaker || name === 'role' || name === 'from') return [['role', isCall ? 'assistant' : role]]
    if (name === text || name === 'content' || name === 'value') return [['content', body.content]]
    if (CALL_FIELDS.includes(name)) return body.calls.length > 0 ? [['tool_calls', body.calls]] : []
    if (name === 'reasoning_content') return [[name, reasoningOf(value, at, origin)]]
    return [[name, value]]
  })
  const message = {
    ...Object.fromEntries(renamed),
    content: body.content,
    ...(body.calls.length > 0 && { tool_calls: body.calls }),
    ...(train !== undefined && { train }),
    ...(body.parts !== undefined && { contentParts: body.parts }),
    ...(body.noContent === true && { noContent: true }),
  } as Message
  return { message, isCall }
}

type Body = Content & { calls: unknown[]; noContent?: true }

/** Content and calls of a message. Content may be null beside calls only. */
function bodyOf(fields: Fields, text: string, at: string, origin: Origin): Body {
  const [field, other] = CALL_FIELDS.filter((name) => !isNone(fields[name]))
  if (other !== undefined) throw bad(origin, `${at}.${other}`, `and ${field} both hold calls: leave one out`)
  const calls = field === undefined ? [] : callsOf(fields[field], `${at}.${field}`, origin)
  const given = fields[text] ?? null
  if (given === null && calls.length > 0) return { content: '', noContent: true, calls }
  return { ...contentOf(given, `${at}.${text}`, origin), calls }
}

/** Joins a reasoning that is a list of text parts. */
function reasoningOf(value: unknown, at: string, origin: Origin): unknown {
  if (!Array.isArray(value)) return value
  const { content, train } = contentOf(value, `${at}.reasoning_content`, origin)
  if (train === undefined) return content
  throw bad(origin, `${at}.reasoning_content`, 'has masks of its own, which is not supported')
}

/** Converts Alpaca's form to a conversation; templates can also read `instruction` and `input` separately. */
export function instructionMessages(row: {
  instruction: string
  input?: string
  output?: string
  system?: string
}): Message[] {
  const { instruction, input = '', output, system = '' } = row
  const content = [instruction, input].filter((text) => text !== '').join('\n')
  const user: Message = { role: 'user', content }
  if (input !== '') Object.assign(user, { instruction, input })
  return [
    ...(system === '' ? [] : [{ role: 'system', content: system }]),
    user,
    ...(output === undefined ? [] : [{ role: 'assistant', content: output }]),
  ]
}

/** Messages in JavaScript's own values, without what is not part of the prompt. */
export function unmarked(messages: readonly Message[]): Message[] {
  return messages.map(
    ({ train: _, contentParts: _parts, noContent: _none, ...message }) => plainOf(message) as Message,
  )
}
