import type { JsonData } from './json-data.js'

/** Maximum nesting of lists and objects in a row. */
export const MAX_DEPTH = 128

/** Digits of the longest integer, as in Python. */
const MAX_DIGITS = 4300

/** A parsed JSON text: as JavaScript's own values, and as JsonData, the same value where the two do not differ. */
export interface ParsedJson {
  value: unknown
  exact: JsonData
}

/**
 * What JSON.parse may lose, with false positives inside strings: floats whose value is an integer, integers beyond
 * 2^53, and keys that are array indices, which an object puts first.
 */
const LOSSES = /\d{16}|\d[eE][+-]?\d|\.0|\.\d{15}|"(?:\d|\\u003\d){1,10}"/

/** Parses a JSON text. Throws a SyntaxError, also where it is nested deeper than `MAX_DEPTH`. */
export function parseJson(text: string): ParsedJson {
  const value: unknown = JSON.parse(text)
  if (isDeeper(value, MAX_DEPTH)) throw new SyntaxError(`nested deeper than ${MAX_DEPTH} lists and objects`)
  return { value, exact: LOSSES.test(text) ? new Reader(text).value() : (value as JsonData) }
}

/** Whether a value without cycles has lists and objects nested deeper than `levels`. */
function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  if (levels === 0) return true
  for (const item of Array.isArray(value) ? value : Object.values(value))
    if (isDeeper(item, levels - 1)) return true
  return false
}

const [SPACE, QUOTE, COMMA, BACKSLASH] = [32, 34, 44, 92]
const NUMBER = /[-+.eE\d]/

/** Reads a text that JSON.parse has taken. */
class Reader {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  /** Reads a value with the white space and the comma around it. */
  value(): JsonData {
    this.#space()
    const value = this.#bare()
    this.#space()
    if (this.#text.charCodeAt(this.#at) === COMMA) this.#at++
    return value
  }

  #space(): void {
    while (this.#text.charCodeAt(this.#at) <= SPACE) this.#at++
  }

  #bare(): JsonData {
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object()
      case '[':
        return this.#list()
      case '"':
        return this.#string()
      case 't':
        this.#at += 4
        return true
      case 'f':
        this.#at += 5
        return false
      case 'n':
        this.#at += 4
        return null
      default:
        return this.#number()
    }
  }

  #string(): string {
    const text = this.#text
    const from = this.#at++
    let escaped = false
    for (let code = text.charCodeAt(this.#at); code !== QUOTE; code = text.charCodeAt(this.#at)) {
      if (code === BACKSLASH) escaped = true
      this.#at += code === BACKSLASH ? 2 : 1
    }
    this.#at++
    return escaped ? (JSON.parse(text.slice(from, this.#at)) as string) : text.slice(from + 1, this.#at - 1)
  }

  #number(): JsonData {
    const from = this.#at
    while (NUMBER.test(this.#text[this.#at] ?? '')) this.#at++
    const text = this.#text.slice(from, this.#at)
    const number = Number(text)
    if (/[.eE]/.test(text)) return Number.isInteger(number) ? new Number(number) : number
    if (Number.isSafeInteger(number)) return number
    if (text.length > MAX_DIGITS) throw new SyntaxError(`an integer of more than ${MAX_DIGITS} digits`)
    return BigInt(text)
  }

  #list(): JsonData[] {
    const list: JsonData[] = []
    this.#at++
    this.#space()
    while (this.#text[this.#at] !== ']') list.push(this.value())
    this.#at++
    return list
  }

  /** A repeated key has its last value, at its first place, as in Python. */
  #object(): JsonData {
    const fields = new Map<string, JsonData>()
    this.#at++
    this.#space()
    while (this.#text[this.#at] !== '}') {
      const key = this.#string()
      this.#space()
      this.#at++
      fields.set(key, this.value())
      this.#space()
    }
    this.#at++
    const object: { readonly [key: string]: JsonData } = Object.fromEntries(fields)
    const keys = fields.keys()
    return Object.keys(object).every((key) => key === keys.next().value) ? object : fields
  }
}

/** Converts to JavaScript's own values, as JSON.parse gives them. */
export function plainOf(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value)
  if (typeof value !== 'object' || value === null) return value
  if (value instanceof Number) return value.valueOf()
  if (Array.isArray(value)) return value.map(plainOf)
  const entries: Iterable<[string, unknown]> =
    value instanceof Map ? (value as Map<string, unknown>) : Object.entries(value)
  return Object.fromEntries(Array.from(entries, ([key, item]) => [key, plainOf(item)]))
}

/** Writes a value as JSON.stringify does; floats, long integers and the order of keys stay as they were read. */
export function jsonOf(value: unknown): string {
  if (typeof value === 'bigint') return `${value}`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  if (value instanceof Number) return floatOf(value.valueOf())
  if (Array.isArray(value)) return `[${value.map(jsonOf).join()}]`
  const entries: [string, unknown][] =
    value instanceof Map ? [...(value as Map<string, unknown>)] : Object.entries(value)
  const written = entries.filter(([, item]) => item !== undefined)
  return `{${written.map(([key, item]) => `${JSON.stringify(key)}:${jsonOf(item)}`).join()}}`
}

/** A float whose value is an integer. */
function floatOf(value: number): string {
  const text = Object.is(value, -0) ? '-0' : String(value)
  return /e/.test(text) ? text : `${text}.0`
}
