import { PosttrainError } from './errors.js'

/** What an argument must be: a test, and its name in an error. */
export interface Rule {
  test: (value: unknown) => boolean
  expected: string
}

const rule = (test: Rule['test'], expected: string): Rule => ({ test, expected })
const inherits = (prototype: object, value: object): boolean =>
  Object.prototype.isPrototypeOf.call(prototype, value)
const isInteger = (value: unknown): value is number => Number.isSafeInteger(value)

/** NUL is no part of a name in any file system. */
const isName = (value: unknown): value is string =>
  typeof value === 'string' && value.trim() !== '' && !value.includes('\0')

/**
 * Beginnings that a shell or a browser would expand. The file system takes them for names: a folder `file:` or `~` in the
 * current one. (Such a folder can be named `./~`.)
 */
export const NOT_EXPANDED = /^(?:file:|~(?:[/\\]|$))/i

/** Rules of arguments and of options. Those of options allow undefined as well. */
export const is = {
  text: rule((value) => typeof value === 'string', 'a string'),
  name: rule(isName, 'a string that is not empty'),
  path: rule(
    (value) => isName(value) && !NOT_EXPANDED.test(value),
    'a path (not empty, no file: URL, and with the home folder written out in place of ~)',
  ),
  flag: rule((value) => typeof value === 'boolean', 'true or false'),
  number: rule((value) => typeof value === 'number' && Number.isFinite(value), 'a finite number'),
  /** Also NaN and infinities, which a loss may be and a step then skips. */
  anyNumber: rule((value) => typeof value === 'number', 'a number'),
  count: rule((value) => isInteger(value) && value >= 0, 'a whole number of at least 0'),
  positive: rule((value) => isInteger(value) && value > 0, 'a whole number above 0'),
  callable: rule((value) => typeof value === 'function', 'a function'),
  object: rule(
    (value) =>
      typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value),
    'an object',
  ),
  list: rule(Array.isArray, 'a list'),
  signal: rule(
    (value) =>
      typeof value === 'object' &&
      value !== null &&
      'aborted' in value &&
      typeof (value as AbortSignal).addEventListener === 'function' &&
      typeof (value as AbortSignal).removeEventListener === 'function',
    'an AbortSignal',
  ),
  reals: rule(
    (value) => value instanceof Float32Array || value instanceof Float64Array,
    'a Float32Array or a Float64Array',
  ),
  int32: rule((value) => value instanceof Int32Array, 'an Int32Array'),
  bytes: rule((value) => value instanceof Uint8Array, 'a Uint8Array'),
  /** Token ids in a list or a typed array. */
  ids: rule(
    (value) =>
      (Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView))) &&
      Array.from(value as ArrayLike<unknown>).every((id) => isInteger(id) && id >= 0 && id < 2 ** 31),
    'a list of token ids',
  ),
  atLeast: (minimum: number) =>
    rule((value) => isInteger(value) && value >= minimum, `a whole number of at least ${minimum}`),
  oneOf: (...values: readonly unknown[]) =>
    rule(
      (value) => values.includes(value),
      `one of ${values.map((value) => JSON.stringify(value)).join(', ')}`,
    ),
  /** An instance of a class; `name` with its article. */
  a: (type: { readonly prototype: object }, name: string) =>
    rule((value) => typeof value === 'object' && value !== null && inherits(type.prototype, value), name),
  listOf: (item: Rule, expected: string) =>
    rule((value) => Array.isArray(value) && Array.from(value).every((one) => item.test(one)), expected),
  orNull: ({ test, expected }: Rule) =>
    rule((value) => value === null || test(value), `${expected}, or null`),
  or: (one: Rule, other: Rule) =>
    rule((value) => one.test(value) || other.test(value), `${one.expected} or ${other.expected}`),
} as const

/** Throws ERR_INVALID_ARGUMENT that names the argument, what was expected, and what came. */
export function needArgument(where: string, name: string, value: unknown, { test, expected }: Rule): void {
  if (!test(value))
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `${where}: ${name} must be ${expected}, got ${shown(value)}`,
    )
}

/** Checks an options object: each option with a rule is undefined or as the rule says. */
export function needOptions(where: string, options: unknown, rules: Readonly<Record<string, Rule>>): void {
  needArgument(where, 'the options', options, is.object)
  for (const [name, value] of Object.entries(options as object)) {
    if (value === undefined) continue
    if (Object.hasOwn(rules, name)) needArgument(where, `option ${name}`, value, rules[name]!)
  }
}

/** A text of at most so many characters, and dots where there were more. */
export const shorten = (text: string, most: number): string =>
  text.length > most ? `${text.slice(0, most)}...` : text

/** A value in an error message, short and never failing. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(shorten(value, 60))
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'function') return 'a function'
  if (Array.isArray(value)) return 'an array'
  if (value !== null && typeof value === 'object') return 'an object'
  return String(value)
}
