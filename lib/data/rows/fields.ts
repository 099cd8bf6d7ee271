import { PosttrainError } from '../../errors.js'

/** Origin of a row, for error messages. */
export interface Origin {
  /** A path, or `rows` for rows in memory. */
  source: string
  /** From 1: a line of a text file, else the position among the rows. */
  line: number
}

/** The columns of a row, or the fields of a message; none of them is null. */
export type Fields = Readonly<Record<string, unknown>>

export const isObject = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Removes null fields, except those in `kept`. */
export function withoutNulls(value: object, kept: readonly string[] = []): Fields {
  if (!Object.values(value).includes(null)) return value as Fields
  return Object.fromEntries(
    Object.entries(value).filter(([name, field]) => field !== null || kept.includes(name)),
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

/** Reads the text in a field; throws ERR_DATA for any other value. */
export function text(fields: Fields, name: string, origin: Origin): string {
  const value = fields[name]
  if (typeof value !== 'string') throw bad(origin, name, `must be a string, got ${kindOf(value)}`)
  return value
}
