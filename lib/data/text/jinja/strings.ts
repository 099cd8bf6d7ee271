import { isLineEnd, isSpace } from './characters.js'
import { typeError, valueError } from './failure.js'
import { itemsOf } from './iteration.js'
import { typeName } from './kinds.js'
import { charge, chargeSearch } from './limits.js'
import { codePoints, pointsOf } from './points.js'
import { concat, isStr, mapText, markAt, marked, raw, type Str, slice, Text } from './text.js'
import type { Value } from './values.js'

/** Python's str.strip, lstrip and rstrip; `characters` null: white space. */
export function strip(text: Str, characters: string | null, left: boolean, right: boolean): Str {
  const source = raw(text)
  let from = 0
  let to = source.length
  if (characters === null) {
    if (left) while (from < to && isSpace(source.charCodeAt(from))) from++
    if (right) while (to > from && isSpace(source.charCodeAt(to - 1))) to--
  } else {
    const set = new Set(characters)
    while (left && from < to) {
      const character = String.fromCodePoint(source.codePointAt(from)!)
      if (!set.has(character)) break
      from += character.length
    }
    while (right && to > from) {
      const pair = to - 2 >= from && source.codePointAt(to - 2)! > 0xffff
      const character = source.slice(to - (pair ? 2 : 1), to)
      if (!set.has(character)) break
      to -= character.length
    }
  }
  charge((source.length - (to - from)) / 8)
  return slice(text, from, to)
}

/** Python's str.replace; `count` below 0: all. */
export function replace(text: Str, before: Str, after: Str, count: number): Str {
  const source = raw(text)
  const wanted = raw(before)
  chargeSearch(source.length, wanted.length)
  const parts: Str[] = []
  let at = 0
  let left = count < 0 ? Number.POSITIVE_INFINITY : count
  if (wanted === '') {
    const points = pointsOf(source)
    for (let i = 0; i <= points.length && left-- > 0; i++) {
      charge(4)
      const end = points.at(i)
      if (end > at) parts.push(slice(text, at, end))
      parts.push(after)
      at = end
    }
  } else {
    for (let found = source.indexOf(wanted); found >= 0 && left > 0; found = source.indexOf(wanted, at)) {
      charge(4)
      parts.push(slice(text, at, found), after)
      at = found + wanted.length
      left--
    }
  }
  if (parts.length === 0) return text
  parts.push(slice(text, at))
  return concat(parts)
}

/** Python's str.split; `separator` null: stretches of white space. */
export function split(text: Str, separator: string | null, limit: number): Str[] {
  const source = raw(text)
  charge(source.length / 16)
  const most = limit < 0 ? Number.POSITIVE_INFINITY : limit
  const parts: Str[] = []
  let at = 0
  if (separator !== null) {
    if (separator === '') throw valueError('empty separator')
    chargeSearch(source.length, separator.length)
    for (
      let end = source.indexOf(separator);
      end >= 0 && parts.length < most;
      end = source.indexOf(separator, at)
    ) {
      charge(2)
      parts.push(slice(text, at, end))
      at = end + separator.length
    }
    parts.push(slice(text, at))
    return parts
  }
  while (true) {
    while (at < source.length && isSpace(source.charCodeAt(at))) at++
    if (at === source.length) break
    if (parts.length >= most) {
      parts.push(slice(text, at))
      break
    }
    charge(2)
    const from = at
    while (at < source.length && !isSpace(source.charCodeAt(at))) at++
    parts.push(slice(text, from, at))
  }
  return parts
}

/** Python's str.rsplit. */
export function splitRight(text: Str, separator: string | null, limit: number): Str[] {
  if (limit < 0) return split(text, separator, -1)
  const source = raw(text)
  charge(source.length / 16)
  const parts: Str[] = []
  let end = source.length
  if (separator !== null) {
    if (separator === '') throw valueError('empty separator')
    chargeSearch(source.length, separator.length)
    while (parts.length < limit) {
      const from = end - separator.length < 0 ? -1 : source.lastIndexOf(separator, end - separator.length)
      if (from < 0) break
      charge(2)
      parts.push(slice(text, from + separator.length, end))
      end = from
    }
    parts.push(slice(text, 0, end))
    return parts.reverse()
  }
  while (true) {
    while (end > 0 && isSpace(source.charCodeAt(end - 1))) end--
    if (end === 0) break
    if (parts.length >= limit) {
      parts.push(slice(text, 0, end))
      break
    }
    charge(2)
    let from = end
    while (from > 0 && !isSpace(source.charCodeAt(from - 1))) from--
    parts.push(slice(text, from, end))
    end = from
  }
  return parts.reverse()
}

/** Lines with the positions of their ends: of the text, and of the line end behind it. */
export function lineSpans(source: string): { from: number; to: number; end: number }[] {
  charge(source.length / 4)
  const lines: { from: number; to: number; end: number }[] = []
  let from = 0
  for (let i = 0; i < source.length; i++) {
    if (!isLineEnd(source.charCodeAt(i))) continue
    const end = source[i] === '\r' && source[i + 1] === '\n' ? i + 2 : i + 1
    charge(4)
    lines.push({ from, to: i, end })
    from = end
    i = end - 1
  }
  if (from < source.length) lines.push({ from, to: source.length, end: source.length })
  return lines
}

/** Python's str.splitlines. */
export function splitLines(text: Str, keepEnds: boolean): Str[] {
  return lineSpans(raw(text)).map(({ from, to, end }) => slice(text, from, keepEnds ? end : to))
}

/** Python's separator.join(parts), of strings only. */
export function join(separator: Str, parts: readonly Str[]): Str {
  if (raw(separator) === '') return concat(parts)
  const all: Str[] = []
  for (const [i, part] of parts.entries()) {
    if (i > 0) all.push(separator)
    all.push(part)
  }
  return concat(all)
}

export function joinValues(separator: Str, values: Value): Str {
  const parts = itemsOf(values).map((value, i) => {
    if (!isStr(value)) {
      throw typeError(`sequence item ${i}: expected str instance, ${typeName(value)} found`)
    }
    return value
  })
  return join(separator, parts)
}

/** Positions in code units of a stretch given in code points, as Python's find and count take it. */
export function stretch(source: string, from: number, to: number): [number, number] | null {
  const points = pointsOf(source)
  const { length } = points
  const clamp = (index: number) => Math.min(length, index < 0 ? Math.max(0, index + length) : index)
  if (from > length) return null
  const [start, end] = [clamp(from), clamp(to)]
  if (start > end) return null
  return [points.at(start), points.at(end)]
}

/** Index in code points of a position in code units. */
export function pointIndex(source: string, at: number): number {
  return codePoints(source.slice(0, at))
}

/** Adds `before` and `after` fill characters. */
export function pad(text: Str, before: number, after: number, fill: string): Str {
  if (before <= 0 && after <= 0) return text
  charge((before + after) / 32)
  return concat([fill.repeat(Math.max(0, before)), text, fill.repeat(Math.max(0, after))])
}

/** Python's str.center puts the odd fill character left where the width is odd. */
export function center(text: Str, width: number, fill: string): Str {
  const missing = width - codePoints(raw(text))
  if (missing <= 0) return text
  const before = Math.floor(missing / 2) + (missing & width & 1)
  return pad(text, before, missing - before, fill)
}

/** Python's str.expandtabs. */
export function expandTabs(text: Str, size: number): Str {
  const source = raw(text)
  const parts: Str[] = []
  let column = 0
  let at = 0
  charge(source.length / 4)
  for (let i = 0; i < source.length; i++) {
    const character = source[i]!
    if (character === '\t') {
      const spaces = size > 0 ? size - (column % size) : 0
      charge(spaces / 32)
      parts.push(slice(text, at, i), marked(' '.repeat(spaces), markAt(text, i)))
      column += spaces
      at = i + 1
    } else if (character === '\n' || character === '\r') column = 0
    else if (source.charCodeAt(i) < 0xdc00 || source.charCodeAt(i) > 0xdfff) column++
  }
  parts.push(slice(text, at))
  return concat(parts)
}

/** A change of case that keeps HTML marked as safe. */
export function cased(text: Str, change: (part: string) => string): Str {
  const changed = mapText(text, change)
  return text instanceof Text && text.safe && changed instanceof Text
    ? new Text(changed.text, changed.runs, true)
    : changed
}
