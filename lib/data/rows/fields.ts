import { PosttrainError } from '../../errors.js'

/** Where a row came from, for messages. */
export interface Origin {
  /** A path, or what the caller's rows are called. */
  source: string
  /** From 1: a line of a .jsonl file, else the place among the rows. */
  line: number
}

/** The columns of a row, or the fields of a message; none of them is null. */
export type Fields = Readonly<Record<string, unknown>>

export const isObject = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Leaves out what is null, but for the fields in `kept`. */
export function withoutNulls(value: object, kept: readonly string[] = []): Fields {
  if (!Object.values(value).includes(null)) return value as Fields
  return Object.fromEntries(
    Object.entries(value).filter(([name, field]) => field !== null || kept.includes(name)),
  )
}

/**
 * The columns of a row of any kind; those that are null count as absent, since a table has null where a row has no
 * value. Throws ERR_DATA where the row is no object.
 */
export function fieldsOf(row: unknown, origin: Origin): Fields {
  if (isObject(row)) return withoutNulls(row)
  throw new PosttrainError(
    'ERR_DATA',
    `${origin.source}:${origin.line}: a row must be an object, got ${kindOf(row)}`,
  )
}

export function bad(origin: Origin, field: string, expected: string): PosttrainError {
  return new PosttrainError('ERR_DATA', `${origin.source}:${origin.line}: ${field} ${expected}`)
}

export function kindOf(value: unknown): string {
  return value === undefined
    ? 'nothing'
    : value === null
      ? 'null'
      : Array.isArray(value)
        ? 'a list'
        : `a ${typeof value}`
}

/** The text in a field; throws ERR_DATA where there is something else. */
export function text(fields: Fields, name: string, origin: Origin): string {
  const value = fields[name]
  if (typeof value !== 'string') throw bad(origin, name, `must be a string, got ${kindOf(value)}`)
  return value
}
