import { PosttrainError } from '../../errors.js'
import { MAX_DEPTH, parseJson } from './exact-json.js'
import type { JsonData } from './json-data.js'

/** Origin of a row, for error messages. */
export interface Origin {
  /** A path, or `rows` for rows in memory. */
  source: string
  /** From 1: a line of a text file, else the position among the rows. */
  line: number
  /** Names of columns in the row, where it has others than the reader. */
  names?: Readonly<Record<string, string>>
}

/** The columns of a row, or the fields of a message; none of them is null. */
export type Fields = Readonly<Record<string, unknown>>

export const isObject = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Number)

/** Removes null fields, except those in `kept`. The fields of a Map become those of an object. */
export function withoutNulls(value: object, kept: readonly string[] = []): Fields {
  const fields = value instanceof Map ? (Object.fromEntries(value) as Fields) : (value as Fields)
  const isAbsent = (field: unknown) => field === null || field === undefined
  if (!Object.values(fields).some(isAbsent)) return fields
  return Object.fromEntries(
    Object.entries(fields).filter(([name, field]) => !isAbsent(field) || kept.includes(name)),
  )
}

/**
 * Reads the columns of a row of any kind. Null columns count as absent, since tables have null where a row has no
 * value. Throws ERR_DATA where the row is not an object.
 */
export function fieldsOf(row: unknown, origin: Origin): Fields {
  if (isObject(row)) return withoutNulls(row)
  throw new PosttrainError(
    'ERR_DATA',
    `${origin.source}:${origin.line}: a row must be an object, got ${kindOf(row)}`,
  )
}

export function bad(origin: Origin, field: string, expected: string): PosttrainError {
  return new PosttrainError(
    'ERR_DATA',
    `${origin.source}:${origin.line}: ${nameIn(origin, field)} ${expected}`,
  )
}

/** Name of a column, or of a field inside it, as the row has it. */
export function nameIn({ names = {} }: Origin, field: string): string {
  const column = /^[^.[]+/.exec(field)?.[0] ?? ''
  return `${Object.hasOwn(names, column) ? names[column] : column}${field.slice(column.length)}`
}

export function kindOf(value: unknown): string {
  if (value === undefined) return 'nothing'
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'a list'
  if (value instanceof Number || typeof value === 'bigint') return 'a number'
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`
}

/** A value in an error: a text itself, the kind of another. */
export const shown = (value: unknown): string =>
  typeof value === 'string' ? JSON.stringify(value) : kindOf(value)

/** Whether a column holds nothing: it is absent, or an empty text, list or object. */
export function isEmpty(value: unknown): boolean {
  if (typeof value !== 'object' || value === null)
    return value === undefined || value === null || value === ''
  if (value instanceof Map) return value.size === 0
  return !(value instanceof Number) && Object.keys(value).length === 0
}

/** Reads the text in a field; throws ERR_DATA for any other value. */
export function text(fields: Fields, name: string, origin: Origin): string {
  const value = fields[name]
  if (typeof value !== 'string') throw bad(origin, name, `must be a string, got ${kindOf(value)}`)
  checkText(value, name, origin)
  return value
}

/** Half of a surrogate pair without the other half, which no tokenizer can encode. */
const LONE_SURROGATE = /\p{Surrogate}/u

function checkText(value: string, at: string, origin: Origin): void {
  const found = LONE_SURROGATE.exec(value)
  if (found === null) return
  const code = found[0].charCodeAt(0).toString(16)
  throw bad(
    origin,
    at,
    `has half of a surrogate pair, \\u${code}, which is not a character: correct the text`,
  )
}

/** Checks a value that reaches a template; throws ERR_DATA naming the field inside it that is not JSON or not text. */
export function dataOf(value: unknown, at: string, origin: Origin): JsonData {
  checkData(value, at, origin, MAX_DEPTH)
  return value as JsonData
}

function checkData(value: unknown, at: string, origin: Origin, levels: number): void {
  if (typeof value === 'string') checkText(value, at, origin)
  else if (typeof value === 'function' || typeof value === 'symbol')
    throw bad(origin, at, `must be a JSON value, got ${kindOf(value)}`)
  if (typeof value !== 'object' || value === null || value instanceof Number) return
  if (levels === 0) throw bad(origin, at, `is nested deeper than ${MAX_DEPTH} lists and objects`)
  if (Array.isArray(value)) {
    for (const [i, item] of value.entries()) checkData(item, `${at}[${i}]`, origin, levels - 1)
    return
  }
  const isPlain = value instanceof Map || Object.prototype.toString.call(value) === '[object Object]'
  if (!isPlain) throw bad(origin, at, `must be a JSON value, got ${value.constructor?.name ?? 'an object'}`)
  const entries: Iterable<[string, unknown]> =
    value instanceof Map ? (value as Map<string, unknown>) : Object.entries(value)
  for (const [key, item] of entries) {
    checkText(key, `a key of ${at}`, origin)
    checkData(item, `${at}.${key}`, origin, levels - 1)
  }
}

/** Parses JSON in a text; throws ERR_DATA with what was expected. */
export function dataIn(json: string, at: string, origin: Origin, expected: string): JsonData {
  let data: JsonData
  try {
    data = parseJson(json).exact
  } catch (error) {
    throw bad(origin, at, `${expected}: ${(error as Error).message}`)
  }
  return dataOf(data, at, origin)
}
