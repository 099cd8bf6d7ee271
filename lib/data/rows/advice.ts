import { shorten } from '../../arguments.js'
import { PosttrainError } from '../../errors.js'
import { bad, type Fields, isObject, nameIn, type Origin } from './fields.js'

/** Most characters of the name of a column. */
const MAX_NAME = 60

/** Columns of a row by its own names, in a few words. */
function columnsIn(fields: Fields, origin: Origin): string {
  const names = Object.keys(fields)
    .filter((name) => fields[name] !== undefined)
    .map((name) => nameIn(origin, name))
    .map((name) => shorten(name, MAX_NAME))
  return `${names.slice(0, 8).join(', ') || '(none)'}${names.length > 8 ? ` and ${names.length - 8} more` : ''}`
}

/** Error for a row without a column that rows of its kind have. */
export function missing(name: string, expected: string, fields: Fields, origin: Origin): PosttrainError {
  return bad(
    origin,
    name,
    `is missing: expected ${expected}; the row has ${columnsIn(fields, origin)}${adviceOn(fields, expected)}`,
  )
}

/** Error for a row that is of no kind. */
export function unknownKind(fields: Fields, origin: Origin): PosttrainError {
  const expected = 'messages, instruction + output, prompt + completion, or text'
  return new PosttrainError(
    'ERR_DATA',
    `${origin.source}:${origin.line}: unknown kind of row, with the fields ${columnsIn(fields, origin)}: ` +
      `expected ${expected}${adviceOn(fields, expected)}`,
  )
}

/** Columns, with what a row that has them may be. */
const SIGNS: readonly [columns: readonly string[], advice: string][] = [
  [['input_ids'], 'token ids are not read: rows hold texts'],
  [['segments'], 'masked segments are not read: write prompt and completion, or messages'],
  [['role'], 'a row is a whole conversation: put its messages into one list, messages'],
  [['mapping'], 'a tree of messages is not read: write each conversation as messages'],
  [['completions', 'labels'], 'labels of steps are not read'],
  [['chosen', 'rejected'], 'rows with chosen and rejected are for dpo and reward'],
  [['responses'], 'rankings are for dpo and reward'],
]
const KNOWN = ['messages', 'conversations', 'instruction', 'output', 'prompt', 'completion', 'response']
const OTHERS = ['question', 'query', 'answer', 'text', 'chosen', 'rejected', 'label']

/** Columns that are lists in rows. */
const LISTS = ['messages', 'prompt', 'completion', 'chosen', 'rejected', 'responses', 'tools', 'history']

const PROMPTS = ' (prompts alone are for ppo, grpo and rloo)'
const RENAME = ': rename its columns, or make such rows in TypeScript and pass them as data'

/** What to do with a row, in brackets behind a sentence. */
function adviceOn(fields: Fields, expected: string): string {
  const sign = SIGNS.find(
    ([names]) =>
      names.every((name) => fields[name] !== undefined) && !names.some((name) => expected.includes(name)),
  )
  if (sign !== undefined) return ` (${sign[1]})`
  const known = [...KNOWN, ...OTHERS]
  const other = Object.keys(fields).find((name) => !known.includes(name) && known.includes(plainName(name)))
  if (other !== undefined) return ` (rename ${JSON.stringify(other)} to ${plainName(other)})`
  // A file that is one object has few fields beside the rows.
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined)
  const rows =
    entries.length > 3
      ? undefined
      : entries.find(([name, value]) => !LISTS.includes(name) && Array.isArray(value) && isObject(value[0]))
  if (rows === undefined) return entries.every(([name]) => name === 'prompt') ? PROMPTS : RENAME
  return ` (if ${rows[0]} holds the rows, write that list alone to a file)`
}

const plainName = (name: string) => name.trim().toLowerCase()
