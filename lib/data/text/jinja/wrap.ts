import { valueError } from './failure.js'
import { charge } from './limits.js'
import { codePoints } from './points.js'
import { lineSpans } from './strings.js'
import { concat, raw, type Str, slice } from './text.js'

/** Wraps the lines of a text at words, as Python's textwrap does without expanding tabs. */
export function wordWrap(
  text: Str,
  width: number,
  breakLong: boolean,
  separator: Str,
  hyphens: boolean,
): Str {
  if (width <= 0) throw valueError(`invalid width ${width} (must be > 0)`)
  const parts: Str[] = []
  for (const [i, { from, to }] of lineSpans(raw(text)).entries()) {
    if (i > 0) parts.push(separator)
    for (const [k, line] of wrapLine(slice(text, from, to), width, breakLong, hyphens).entries()) {
      if (k > 0) parts.push(separator)
      parts.push(line)
    }
  }
  return concat(parts)
}

/** Stretches of white space and of words, the latter cut behind hyphens. */
function chunks(source: string, hyphens: boolean): string[] {
  const all: string[] = []
  for (const part of source.match(/[\t\n\v\f\r ]+|[^\t\n\v\f\r ]+/g) ?? []) {
    if (!hyphens || /^[\t\n\v\f\r ]/.test(part)) all.push(part)
    else
      all.push(
        ...part.split(
          /(?<=[\p{L}\p{N}_!"'&.,?][\p{L}_]-)(?=[\p{L}_][\p{L}_]|[\p{L}_]-[\p{L}_])|(?<=[^-\s])(?=-{2,}\w)/u,
        ),
      )
  }
  return all.filter((part) => part !== '')
}

function wrapLine(text: Str, width: number, breakLong: boolean, hyphens: boolean): Str[] {
  charge(4 * raw(text).length)
  const lines: Str[] = []
  const words = chunks(raw(text), hyphens).reverse()
  let at = 0
  while (words.length > 0) {
    if (lines.length > 0 && words[words.length - 1]!.trim() === '') at += words.pop()!.length
    const from = at
    let length = 0
    let taken: string[] = []
    while (words.length > 0 && length + codePoints(words[words.length - 1]!) <= width) {
      const word = words.pop()!
      taken.push(word)
      length += codePoints(word)
    }
    if (
      words.length > 0 &&
      codePoints(words[words.length - 1]!) > width &&
      (breakLong || taken.length === 0)
    ) {
      const word = words.pop()!
      const room = breakLong ? width - length : codePoints(word)
      // A character has at most two code units.
      charge(16 + room)
      let head = [...word.slice(0, 2 * room)].slice(0, room).join('')
      const hyphen = breakLong && hyphens ? head.lastIndexOf('-') : -1
      if (hyphen > 0 && /[^-]/.test(head.slice(0, hyphen))) head = head.slice(0, hyphen + 1)
      taken.push(head)
      if (head.length < word.length) words.push(word.slice(head.length))
    }
    let end = from + taken.join('').length
    at = end
    if (taken.length > 0 && taken[taken.length - 1]!.trim() === '') {
      end -= taken[taken.length - 1]!.length
      taken = taken.slice(0, -1)
    }
    if (taken.length > 0) lines.push(slice(text, from, end))
  }
  return lines
}
