import { PosttrainError } from '../../errors.js'
import { parseJson } from '../rows/exact-json.js'
import { chunksOf, notUtf8, Pieces, tooLong } from './chunks.js'
import type { SourceRow } from './format.js'

const [QUOTE, COMMA, BACKSLASH] = [0x22, 0x2c, 0x5c]
const OPEN = new Set([0x5b, 0x7b])
const CLOSE = new Set([0x5d, 0x7d])
const isSpace = (byte: number) => byte <= 0x20

/** Finds the first byte of a file that is not white space; null in an empty one. */
export async function firstByte(path: string): Promise<string | null> {
  for await (const chunk of chunksOf(path)) {
    const byte = chunk.find((byte) => !isSpace(byte))
    if (byte !== undefined) return String.fromCharCode(byte)
  }
  return null
}

/** Reads a row from its JSON text; null is a text that is not UTF-8. */
export function jsonRow(text: string | null, origin: SourceRow['origin'], what: string): SourceRow {
  if (text === null) return { row: undefined, origin, failure: notUtf8(origin.source, origin.line) }
  try {
    const { value, exact } = parseJson(text)
    return value === exact ? { row: value, origin } : { row: value, exact, origin }
  } catch (cause) {
    const failure = new PosttrainError(
      'ERR_DATA',
      `${origin.source}:${origin.line}: the ${what} is not valid JSON: ${(cause as Error).message}${adviceOn(text)}`,
      { cause },
    )
    return { row: undefined, origin, failure }
  }
}

/** Texts that are nearly JSON, with what to write instead. */
const NEARLY: readonly [form: RegExp, advice: string][] = [
  [/^\s*(?:\/\/|\/\*|#)/, 'JSON has no comments'],
  [/^\s*[[{]\s*'/, "JSON has strings in double quotes; what Python's str() wrote is not JSON"],
  [/\}\s*,\s*$/, 'no comma ends a line'],
  [/,\s*[}\]]\s*$/, 'no comma stands before the end of an object or a list'],
  [/^\s*</, 'this is a page of HTML: download the file itself'],
  [/^\s*[^\s{["]/, 'a row begins with {'],
  [/[:[,]\s*(?:NaN|-?Infinity)\b/, 'NaN and Infinity are not JSON, write null'],
]

function adviceOn(text: string): string {
  const [, advice] = NEARLY.find(([form]) => form.test(text)) ?? []
  return advice === undefined ? '' : ` (${advice})`
}

/** Splits JSON at the ends of its outermost values, and a list between its items. */
class Splitter {
  #depth = 0
  #inString = false
  #escaped = false

  /** Takes a byte and returns whether a value ends: `after` the byte, or `before` it, at a comma or the end of the list. */
  take(byte: number): 'after' | 'before' | 'end' | null {
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false
      else if (byte === BACKSLASH) this.#escaped = true
      else if (byte === QUOTE) this.#inString = false
      return null
    }
    if (byte === QUOTE) this.#inString = true
    else if (OPEN.has(byte)) this.#depth++
    else if (CLOSE.has(byte)) {
      this.#depth--
      if (this.#depth < 0) {
        this.#depth = 0
        return 'end'
      }
      if (this.#depth === 0) return 'after'
    } else if (byte === COMMA && this.#depth === 0) return 'before'
    return null
  }
}

/** Reads objects that follow one another, each on several lines. Rows are counted from 1. */
export async function* objectsOf(path: string): AsyncGenerator<SourceRow> {
  const [pieces, splitter] = [new Pieces(), new Splitter()]
  let number = 1
  for await (const chunk of chunksOf(path)) {
    let from = 0
    for (let at = 0; at < chunk.length; at++) {
      if (splitter.take(chunk[at]!) === null) continue
      pieces.add(chunk.subarray(from, at + 1))
      yield jsonRow(pieces.take(), { source: path, line: number++ }, 'row')
      from = at + 1
    }
    pieces.add(chunk.subarray(from))
    if (pieces.tooLong) throw tooLong(path, number, 'row')
  }
  const rest = pieces.take()
  if (rest?.trim() !== '') yield jsonRow(rest, { source: path, line: number }, 'row')
}

/** Reads the items of one list; a string is a row of text. Rows are counted from 1. */
export async function* itemsOf(path: string): AsyncGenerator<SourceRow> {
  const [pieces, splitter] = [new Pieces(), new Splitter()]
  const bad = (what: string) => new PosttrainError('ERR_DATA', `${path}: not a JSON list of rows: ${what}`)
  let number = 0
  let state = 'before' as 'before' | 'inside' | 'after'
  for await (const chunk of chunksOf(path)) {
    let from = 0
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at]!
      if (state !== 'inside') {
        if (isSpace(byte)) continue
        if (state === 'after') throw bad('something follows the end of the list')
        state = 'inside'
        from = at + 1
        continue
      }
      const found = splitter.take(byte)
      if (found !== 'before' && found !== 'end') continue
      pieces.add(chunk.subarray(from, at))
      from = at + 1
      const text = pieces.take()
      if (found === 'end') state = 'after'
      if (found === 'end' && number === 0 && text?.trim() === '') continue
      const read = jsonRow(text, { source: path, line: ++number }, 'row')
      yield typeof read.row === 'string' ? { row: { text: read.row }, origin: read.origin } : read
    }
    if (state === 'inside') pieces.add(chunk.subarray(from))
    if (pieces.tooLong) throw tooLong(path, number + 1, 'row')
  }
  if (state !== 'after') throw bad('the list has no end: the file is cut off')
}
