import { isDialog } from './common-start.js'
import { bad, type Fields, fieldsOf, isEmpty, isObject, kindOf, type Origin, withoutNulls } from './fields.js'
import { readTexts } from './json-texts.js'
import { isMessage, messagesInText } from './messages.js'
import { CALLS, knownRole, speakerIn } from './roles.js'

/** Names of the columns; of several with a value the first counts. */
const NAMES = {
  /** What is not text. */
  media: ['images', 'image', 'videos', 'video', 'audios', 'audio'],
  /** Messages of one conversation. */
  list: ['messages', 'conversations', 'conversation', 'dialog', 'dialogue'],
  /** Lists that may as well hold other things. */
  general: ['contents', 'items'],
  system: [
    ...['system', 'system_prompt', 'system_message', 'system_instruction'],
    ...['systemPrompt', 'systemMessage', 'systemInstruction'],
  ],
  weight: ['weight', 'sample_weight', 'loss_weight'],
  chosen: ['chosen', 'chosen_response', 'preferred_output'],
  rejected: ['rejected', 'rejected_response', 'non_preferred_output', 'rejected_messages'],
  ranks: ['ranks', 'rank'],
  scores: ['scores', 'score', 'ratings', 'rating', 'rewards', 'reward'],
  label: ['label', 'kto_tag'],
  prompt: ['prompt', 'question', 'query'],
  /** A prompt where no text is beside it. */
  problem: ['problem'],
  /** A prompt beside a response only. */
  input: ['input', 'inputs'],
  completion: ['completion', 'response', 'solution', 'answer', 'output', 'target', 'targets'],
} as const

type Column = keyof typeof NAMES

/** What a value must be under names that may as well be those of another column. */
const FITS: Readonly<Record<string, (value: unknown) => boolean>> = {
  ...Object.fromEntries(NAMES.list.map((name) => [name, isList])),
  ...Object.fromEntries(NAMES.general.map((name) => [name, isConversation])),
  sample_weight: (value) => kindOf(value) === 'a number',
  loss_weight: (value) => kindOf(value) === 'a number',
  rank: Array.isArray,
  ...Object.fromEntries(NAMES.scores.slice(1).map((name) => [name, holdsNumber])),
}

/** Whether a list may order responses: objects and lists in it say other things. */
function holdsNumber(value: unknown): boolean {
  return (
    Array.isArray(value) &&
    value.some((item) => kindOf(item) === 'a number' || Number(item || Number.NaN) >= 0)
  )
}

function isList(value: unknown): boolean {
  return typeof value === 'string' ? /^\s*\[\s*[[{"]/.test(value) : Array.isArray(value) && value.length > 0
}

function isConversation(value: unknown): boolean {
  if (!Array.isArray(value) || !isObject(value[0])) return false
  return isMessage(value[0]) || Array.isArray(withoutNulls(value[0]).parts)
}

/** The column that a name is one of, its rank among them, and what fits there. */
const COLUMNS: ReadonlyMap<string, { column: Column; rank: number; fits?: (value: unknown) => boolean }> =
  new Map(
    Object.entries(NAMES).flatMap(([column, names]) =>
      names.map((name, rank) => {
        const fits = Object.hasOwn(FITS, name) ? { fits: FITS[name]! } : {}
        return [name, { column: column as Column, rank, ...fits }] as const
      }),
    ),
  )

/** The names that a row has for columns. */
interface Found {
  /** Those with a value. */
  full: Partial<Record<Column, string>>
  /** Those that are empty, and lists of conversations that are none. */
  blank: Partial<Record<Column, string>>
}

function foundIn(given: Fields): Found {
  const found: Found = { full: {}, blank: {} }
  for (const name of Object.keys(given)) {
    const known = COLUMNS.get(name)
    if (known === undefined) continue
    const { column, rank, fits } = known
    const value = given[name]
    const empty = isEmpty(value)
    const isFull = !empty && (fits === undefined || fits(value))
    if (!isFull && !empty && column !== 'list') continue
    const names = isFull ? found.full : found.blank
    const other = names[column]
    if (other === undefined || COLUMNS.get(other)!.rank > rank) names[column] = name
  }
  return found
}

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
  const found = foundIn(given)
  const { media } = found.full
  if (media !== undefined) throw bad(origin, media, 'is not supported: only text is trained')
  const { fields, at } = renamed(given, namesOf(given, found), origin)
  if (at.names?.completion === 'answers')
    fields.completion = { role: 'assistant', tool_calls: fields.completion }
  readTexts(fields)
  return { fields, at }
}

/** OpenAI's rows of preferences hold the messages and their tools in `input`. */
function unwrapped(fields: Fields): Fields {
  const { input, ...rest } = fields
  if (!isObject(input) || !isEmpty(fields.prompt) || !isEmpty(fields.messages)) return fields
  const within = Object.fromEntries(input instanceof Map ? input : Object.entries(input)) as Fields
  return within.messages === undefined ? fields : { ...rest, ...within }
}

/** The name that a row has for each column of its reader; null where the column of that name is another or none. */
type Names = Map<string, string | null>

const OF_ROWS = ['system', 'weight', 'chosen', 'rejected', 'ranks', 'label'] as const
const OF_TEXTS = ['prompt', 'problem', 'input', 'completion'] as const

function namesOf(given: Fields, found: Found): Names {
  const { full, blank } = found
  const names: Names = new Map()
  const isFull = (name: string) => !isEmpty(given[name])
  for (const column of OF_ROWS) take(names, column, full[column] ?? blank[column])
  if (isFull('responses')) take(names, 'scores', full.scores)
  // What is a row without them, lists that may hold other things are not read in.
  const isRead = full.prompt !== undefined || isPair(given, found) || isPreference(given, found)
  const general = isRead || ['instruction', 'text', 'completion'].some(isFull) ? undefined : full.general
  const isOther =
    general === undefined &&
    (isRead ||
      given.instruction !== undefined ||
      given.text !== undefined ||
      OF_TEXTS.some((column) => (full[column] ?? blank[column]) !== undefined))
  const list = full.list ?? general ?? (isOther ? undefined : blank.list)
  if (list !== undefined) take(names, 'messages', list)
  else {
    if (given.messages !== undefined) names.set('messages', null)
    if (given.instruction === '' && full.prompt !== undefined) names.set('instruction', null)
    if (given.instruction !== undefined && !names.has('instruction')) takeInstruction(names, given, found)
    else takePrompt(names, given, found)
  }
  return names
}

function take(names: Names, column: string, name: string | undefined): void {
  if (name !== undefined) names.set(column, name)
}

/** Whether `input` and `output` are a prompt and its completion. */
const isPair = (given: Fields, { full }: Found) =>
  full.prompt === undefined && !isEmpty(given.input) && !isEmpty(given.output)

const isPreference = (given: Fields, { full }: Found) =>
  (full.chosen ?? full.rejected) !== undefined || !isEmpty(given.responses)

function takeInstruction(names: Names, given: Fields, { full, blank }: Found): void {
  if (isEmpty(given.input) && given.context !== undefined) take(names, 'input', 'context')
  take(names, 'output', isEmpty(given.output) ? (full.completion ?? blank.completion) : 'output')
}

function takePrompt(names: Names, given: Fields, found: Found): void {
  const { full, blank } = found
  if (isPair(given, found)) {
    take(names, 'prompt', 'input')
    take(names, 'completion', 'output')
  } else {
    const completion = full.completion ?? blank.completion ?? (isCalls(given) ? 'answers' : undefined)
    take(names, 'completion', completion)
    const isText = !isEmpty(given.text) && full.prompt === undefined && !isPreference(given, found)
    if (isText) takeText(names, given, found)
    else
      take(
        names,
        'prompt',
        full.prompt ?? generalPrompt(given, found, completion !== undefined) ?? blank.prompt,
      )
  }
  // A call of OpenAI's Responses API.
  const isCall = [given.input, given.output].some(Array.isArray)
  if (isCall && isEmpty(given[names.get('system') ?? 'system']) && !isEmpty(given.instructions))
    take(names, 'system', 'instructions')
}

/** Names of columns beside a text that are errors there. */
const SYSTEMS: readonly unknown[] = ['system', 'system_prompt']

/** Names of a completion that stand beside a prompt alone, also where that is empty. */
const COMPLETIONS: readonly unknown[] = ['completion', 'response', 'answer']

/** A text alone, but for an empty prompt that has a completion. */
function takeText(names: Names, given: Fields, { full, blank }: Found): void {
  if (COMPLETIONS.includes(full.completion)) take(names, 'prompt', blank.prompt)
  else if (given.prompt !== undefined) names.set('prompt', null)
  if (!names.has('prompt') && !SYSTEMS.includes(names.get('system'))) names.delete('system')
}

/** The name of a prompt that other rows have for other things. */
function generalPrompt(given: Fields, { full, blank }: Found, isAnswered: boolean): string | undefined {
  const { chosen = 'chosen', rejected = 'rejected' } = full
  const isCall = [given.input, given.output].some(Array.isArray)
  const beside = isAnswered || isCall || isPreference(given, { full, blank })
  const name = full.problem ?? (beside ? full.input : undefined)
  // Dialogs that are no responses to it hold their own prompt.
  const asked = name === undefined ? undefined : given[name]
  const begins = (text: unknown) => typeof asked === 'string' && String(text).startsWith(asked)
  const responses = [given[chosen], given[rejected]]
  if (responses.every(isDialog) && !responses.every(begins)) return undefined
  return (
    name ?? (blank.prompt === undefined ? (blank.problem ?? (beside ? blank.input : undefined)) : undefined)
  )
}

/** The columns of a row under the names of its reader. */
function renamed(
  given: Fields,
  names: Names,
  origin: Origin,
): { fields: Record<string, unknown>; at: Origin } {
  const moved = [...names].filter(([column, name]) => name !== column)
  if (moved.length === 0) return { fields: { ...given }, at: origin }
  const replaced = new Set(moved.map(([column]) => column))
  const columns = new Map(moved.map(([column, name]) => [name, column]))
  const entries = Object.entries(given).flatMap(([name, value]): [string, unknown][] => {
    const column = columns.get(name)
    if (column !== undefined) return [[column, value]]
    return replaced.has(name) ? [] : [[name, value]]
  })
  const known = moved.filter(([, name]) => name !== null) as [string, string][]
  return { fields: Object.fromEntries(entries), at: { ...origin, names: Object.fromEntries(known) } }
}

/** Whether the column `answers` holds calls of the row's tools, as in XLAM. */
function isCalls({ answers, tools }: Fields): boolean {
  if (isEmpty(tools) || isEmpty(answers)) return false
  if (typeof answers === 'string') return /^\s*\[\s*\{\s*"(?:name|arguments)"/.test(answers)
  return Array.isArray(answers) && answers.every((item) => isObject(item) && 'name' in item)
}

/**
 * The columns of a pair: ms-swift's rows hold what was chosen as the response of the row, in the last of its messages or
 * a column of its own.
 */
export function withChosen(columns: Columns): Columns {
  const { fields, at } = columns
  const { names = {} } = at
  if (
    fields.chosen !== undefined ||
    !['rejected_response', 'rejected_messages'].includes(names.rejected ?? '')
  )
    return columns
  const { messages } = fields
  const list = Array.isArray(messages) ? messages : messagesInText(messages)
  const place = list?.length ?? 0
  if (list !== undefined && place > 1 && !isAsked(list.at(-1))) {
    const name = `${names.messages ?? 'messages'}[${place - 1}]`
    return {
      fields: { ...fields, messages: list.slice(0, -1), chosen: list.at(-1) },
      at: { ...at, names: { ...names, chosen: name } },
    }
  }
  const own = ['output', ...NAMES.completion].find((name) => !isEmpty(fields[name]))
  if (own === undefined) return columns
  const { [own]: chosen, ...rest } = fields
  return { fields: { ...rest, chosen }, at: { ...at, names: { ...names, chosen: names[own] ?? own } } }
}

/** Whether a message is not one of the assistant. */
function isAsked(item: unknown): boolean {
  const fields = isObject(item) ? withoutNulls(item) : {}
  const speaker = speakerIn(fields)
  const role = speaker === undefined ? undefined : knownRole(fields[speaker] as string)
  return role !== undefined && role !== 'assistant' && !CALLS.has(role)
}
