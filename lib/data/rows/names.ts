import { bad, type Fields, fieldsOf, isEmpty, isObject, type Origin } from './fields.js'
import { messagesInText } from './messages.js'

/** Columns of what is not text. */
const MEDIA = ['images', 'image', 'videos', 'video', 'audios', 'audio'] as const

/** Columns that hold messages of one conversation. */
const LISTS = [
  'messages',
  'conversations',
  'conversation',
  'dialog',
  'dialogue',
  'contents',
  'items',
] as const
/** Those of LISTS that may as well hold other things. */
const GENERAL: readonly string[] = ['contents', 'items']

/** Names of a column; the first that a row has a value under counts. */
type Names = Readonly<Record<string, readonly string[]>>

const RESPONSE = ['completion', 'response', 'output', 'solution', 'answer', 'target', 'targets']

/** Names of the columns of every row. */
const OF_ROWS: Names = {
  system: [
    ...['system', 'system_prompt', 'system_message', 'system_instruction'],
    ...['systemPrompt', 'systemMessage', 'systemInstruction'],
  ],
  weight: ['weight', 'sample_weight', 'loss_weight'],
  chosen: ['chosen', 'chosen_response', 'preferred_output'],
  rejected: ['rejected', 'rejected_response', 'non_preferred_output', 'rejected_messages'],
  ranks: ['ranks', 'rank'],
  label: ['label', 'kto_tag'],
}
const OF_INSTRUCTIONS: Names = {
  input: ['input', 'context'],
  output: ['output', ...RESPONSE.filter((name) => name !== 'output')],
}
const OF_PROMPTS: Names = { prompt: ['prompt', 'question', 'query', 'problem'], completion: RESPONSE }
/** Names of a prompt beside a response only. */
const INPUTS = ['input', 'inputs']

/** The columns of a row by the names of its reader, and its origin with the names that the row has for them. */
export interface Columns {
  fields: Fields
  at: Origin
}

/**
 * Finds the columns of a row of any kind under the names that other programs have for them. Throws ERR_DATA where the
 * row is not an object, and for images and the like.
 */
export function columnsOf(row: unknown, origin: Origin): Columns {
  const given = unwrapped(fieldsOf(row, origin))
  const media = MEDIA.find((name) => !isEmpty(given[name]))
  if (media !== undefined) throw bad(origin, media, 'is not supported: only text is trained')
  const fields: Record<string, unknown> = { ...given }
  const names: Record<string, string> = {}
  const take = (name: string, found: string | undefined) => {
    if (found === undefined || found === name) return
    fields[name] = given[found]
    delete fields[found]
    names[name] = found
  }
  const takeAll = (known: Names) => {
    for (const [name, others] of Object.entries(known)) take(name, presentOf(given, others))
  }
  takeAll(OF_ROWS)
  const list = listOf(given)
  if (list !== undefined) take('messages', list)
  else if (given.instruction !== undefined) takeAll(OF_INSTRUCTIONS)
  else {
    takeAll(OF_PROMPTS)
    if (fields.completion === undefined && isCalls(fields)) {
      fields.completion = { role: 'assistant', tool_calls: fields.answers }
      delete fields.answers
      names.completion = 'answers'
    }
    const answered = [fields.completion, fields.chosen, fields.rejected, fields.responses]
    const isCall = [given.input, given.output].some(Array.isArray)
    if (fields.prompt === undefined && (isCall || answered.some((value) => value !== undefined)))
      take('prompt', presentOf(given, INPUTS))
    // A call of OpenAI's Responses API.
    if (isCall && fields.system === undefined && !isEmpty(given.instructions)) take('system', 'instructions')
  }
  if (list === undefined) delete fields.messages
  if (fields.chosen === undefined && fields.rejected !== undefined) takeChosen(fields, names)
  readTexts(fields)
  return { fields, at: { ...origin, names } }
}

/** Whether the column `answers` holds calls of the row's tools, as in XLAM. */
function isCalls({ answers, tools }: Fields): boolean {
  if (isEmpty(tools) || isEmpty(answers)) return false
  if (typeof answers === 'string') return /^\s*\[\s*\{\s*"(?:name|arguments)"/.test(answers)
  return Array.isArray(answers) && answers.every((item) => isObject(item) && 'name' in item)
}

const presentOf = (fields: Fields, names: readonly string[]): string | undefined =>
  names.find((name) => !isEmpty(fields[name])) ?? names.find((name) => fields[name] !== undefined)

/** The column with the messages of a row. */
function listOf(fields: Fields): string | undefined {
  const [certain, ...others] = LISTS.filter((name) => isList(name, fields[name]))
  if (certain !== undefined || others.length > 0) return certain
  const otherwise = ['instruction', 'text', ...Object.values(OF_PROMPTS).flat(), ...INPUTS]
  if (otherwise.some((name) => fields[name] !== undefined)) return undefined
  return LISTS.find((name) => fields[name] !== undefined && !GENERAL.includes(name))
}

function isList(name: string, value: unknown): boolean {
  if (typeof value === 'string') return !GENERAL.includes(name) && value.trimStart().startsWith('[')
  if (!Array.isArray(value)) return !GENERAL.includes(name) && isObject(value)
  if (!GENERAL.includes(name)) return value.length > 0
  const first = isObject(value[0]) ? Object.keys(value[0]) : []
  return ['role', 'from', 'parts'].some((field) => first.includes(field))
}

/** OpenAI's rows of preferences hold the messages and their tools in `input`. */
function unwrapped(fields: Fields): Fields {
  const { input, ...rest } = fields
  if (!isObject(input)) return fields
  const within = Object.fromEntries(input instanceof Map ? input : Object.entries(input)) as Fields
  return within.messages === undefined ? fields : { ...rest, ...within }
}

/** Reads messages in JSON, which tables have where other rows have messages; a response beside a text stays a text. */
function readTexts(fields: Record<string, unknown>): void {
  const { prompt, completion, chosen, rejected } = fields
  const listOf = (value: unknown) => (Array.isArray(value) ? value : messagesInText(value))
  fields.prompt = messagesInText(prompt) ?? prompt
  if (Array.isArray(fields.prompt)) fields.completion = messagesInText(completion) ?? completion
  const pair = [listOf(chosen), listOf(rejected)]
  if (pair[0] !== undefined && pair[1] !== undefined) [fields.chosen, fields.rejected] = pair
}

/** ms-swift's rows of preferences hold what was chosen as the response of the row. */
function takeChosen(fields: Record<string, unknown>, names: Record<string, string>): void {
  if (names.rejected !== 'rejected_response' && names.rejected !== 'rejected_messages') return
  const { messages } = fields
  const place = fields.instruction === undefined ? 'completion' : 'output'
  if (Array.isArray(messages) && messages.length > 1) {
    fields.chosen = messages.at(-1)
    fields.messages = messages.slice(0, -1)
    names.chosen = `${names.messages ?? 'messages'}[${messages.length - 1}]`
  } else if (fields[place] !== undefined) {
    fields.chosen = fields[place]
    delete fields[place]
    names.chosen = names[place] ?? place
  }
}
