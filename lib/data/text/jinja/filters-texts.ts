import { attributeOf, getAttribute, isUnsafe, missingAttribute } from './access.js'
import { Failure, typeError, valueError } from './failure.js'
import { hasEntity } from './html.js'
import { isIterable, itemsOf, lengthOf } from './iteration.js'
import { jsonOptions, toJson } from './json.js'
import { isTrue, rawOf, stringOf } from './kinds.js'
import { charge, checkLength } from './limits.js'
import { type Native, type Natives, natives } from './native.js'
import { indexOf, intOf } from './numbers.js'
import { binary } from './operators.js'
import { percent } from './percent.js'
import { codePoints, pointsOf } from './points.js'
import { str } from './spelling.js'
import { capitalized } from './string-methods.js'
import * as strings from './strings.js'
import { concat, isStr, mapText, markAt, marked, raw, type Str, slice, Text } from './text.js'
import { Dict, Tuple, Undefined, type Value } from './values.js'
import { wordWrap } from './wrap.js'

/** HTML that `escape` leaves as it is. */
function safe(text: Str): Text {
  return typeof text === 'string'
    ? new Text(text, [{ to: text.length, mark: null }], true)
    : new Text(text.text, text.runs, true)
}

const ENTITIES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  "'": '&#39;',
  '"': '&#34;',
}

export function escapeHtml(value: Value): Str {
  if (value instanceof Text && value.safe) return value
  return safe(
    mapText(str(value), (part) => {
      charge(4 * part.length)
      return part.replace(/[&<>'"]/g, (character) => ENTITIES[character]!)
    }),
  )
}

function indent(value: Value, width: Value = 4, first: Value = false, blank: Value = false): Str {
  if (!isStr(width)) checkLength(indexOf(width))
  const by = isStr(width) ? width : ' '.repeat(Math.max(0, indexOf(width)))
  const text = binary('+', value, '\n') as Str
  const source = raw(text)
  const parts: Str[] = []
  for (const [i, { from, to }] of strings.lineSpans(source).entries()) {
    if (i > 0) {
      // The end of the line before keeps its origin.
      parts.push(marked('\n', markAt(text, from - 1)))
    }
    if ((i > 0 && (isTrue(blank) || to > from)) || (i === 0 && isTrue(first))) parts.push(by)
    parts.push(slice(text, from, to))
  }
  return concat(parts)
}

function truncate(
  value: Value,
  length: Value = 255,
  kill: Value = false,
  end: Value = '...',
  leeway: Value = null,
): Value {
  const most = indexOf(length)
  const mark = stringOf(end, 'end')
  const slack = leeway === null ? 5 : indexOf(leeway)
  const kept = most - codePoints(raw(mark))
  if (kept < 0) throw valueError(`expected length >= ${codePoints(raw(mark))}, got ${most}`)
  if (slack < 0) throw valueError(`expected leeway >= 0, got ${slack}`)
  if ((lengthOf(value) ?? Number.POSITIVE_INFINITY) <= most + slack) return value
  const text = stringOf(value, 'the value')
  const cut = slice(text, 0, pointsOf(raw(text)).at(kept))
  return concat([isTrue(kill) ? cut : strings.splitRight(cut, ' ', 1)[0]!, mark])
}

/** The filter `title` begins words after other characters than Python's method. */
function title(value: Value): Str {
  return strings.cased(str(value), (part) => {
    charge(8 * part.length)
    const words = part.split(/([-\s({[<]+)/).map((word) => {
      const [first] = word
      return first === undefined ? '' : first.toUpperCase() + word.slice(first.length).toLowerCase()
    })
    return words.join('')
  })
}

function quoted(value: Value, query: boolean): Str {
  return mapText(str(value), (part) => {
    charge(4 * part.length)
    const encoded = encodeURIComponent(part.replace(/\p{Surrogate}/gu, '?')).replace(
      /[!'()*]/g,
      (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
    )
    return query ? encoded.replaceAll('%20', '+') : encoded.replaceAll('%2F', '/')
  })
}

function urlEncode(value: Value): Str {
  if (isStr(value) || !isIterable(value)) return quoted(value, false)
  const pairs =
    value instanceof Dict
      ? value.entries().map(({ key, value: of }) => [key, of])
      : itemsOf(value).map(itemsOf)
  return strings.join(
    '&',
    pairs.map((pair) => {
      if (pair.length !== 2) throw valueError('urlencode needs pairs')
      return concat([quoted(pair[0]!, true), '=', quoted(pair[1]!, true)])
    }),
  )
}

function xmlAttributes(value: Value, space: Value = true): Str {
  if (!(value instanceof Dict)) throw typeError('xmlattr needs a dict')
  const parts: Str[] = []
  for (const { key, value: of } of value.entries()) {
    if (of === null || of instanceof Undefined) continue
    if (/[\s/>=]/.test(rawOf(key, 'key')))
      throw valueError(`Invalid character in attribute name: '${raw(str(key))}'`)
    parts.push(concat([escapeHtml(key), '="', escapeHtml(of), '"']))
  }
  const all = strings.join(' ', parts)
  return isTrue(space) && raw(all) !== '' ? concat([' ', all]) : all
}

function wordCount(value: Value): number {
  const source = raw(str(value))
  charge(3 * source.length)
  return source.match(/[\p{L}\p{N}_]+/gu)?.length ?? 0
}

/** Without tags and comments; an unclosed one ends the search, as in markupsafe. */
function stripTags(value: Value): Str {
  const text = str(value)
  const source = raw(text)
  charge(source.length / 8)
  const parts: string[] = []
  let at = 0
  for (let from = source.indexOf('<'); from >= 0; from = source.indexOf('<', at)) {
    charge(8)
    const comment = source.startsWith('<!--', from)
    const to = comment ? source.indexOf('-->', from + 4) : source.indexOf('>', from)
    if (to < 0) break
    parts.push(source.slice(at, from))
    at = to + (comment ? 3 : 1)
  }
  const without = parts.join('') + source.slice(at)
  if (hasEntity(without)) throw new Failure('TemplateError', 'striptags of HTML entities is refused')
  const words = raw(strings.join(' ', strings.split(without, null, -1)))
  return typeof text === 'string' ? words : marked(words, markAt(text, 0))
}

function json(
  value: Value,
  ascii: Value = false,
  by: Value = null,
  separators: Value = null,
  sort: Value = false,
): Str {
  const width = intOf(by)
  if (by !== null && width === null && !isStr(by)) throw typeError('indent must be an int or a string')
  const pair = separators === null ? null : itemsOf(separators)
  if (pair !== null && pair.length !== 2) throw valueError('separators must be a pair')
  const options = jsonOptions(
    isTrue(ascii),
    isStr(by) ? by : width === null ? null : Number(width),
    pair === null ? null : [stringOf(pair[0]!, 'separator'), stringOf(pair[1]!, 'separator')],
    isTrue(sort),
  )
  return toJson(value, options)
}

function attr(value: Value, name: Value): Value {
  const key = raw(str(name))
  // Unlike with a dot, keys are not attributes.
  if (attributeOf(value, key) === undefined && !isUnsafe(value, key)) {
    return value instanceof Undefined ? getAttribute(value, key) : missingAttribute(value, key)
  }
  return getAttribute(value, key)
}

function refused(name: string, why: string): [string, Native] {
  return [
    name,
    () => {
      throw new Failure('TemplateError', `the filter '${name}' is refused: ${why}`)
    },
  ]
}

export const textFilters: Natives = new Map<string, Native>([
  ...natives({
    upper: ['s', (value: Value) => strings.cased(str(value), (part) => part.toUpperCase())],
    lower: ['s', (value: Value) => strings.cased(str(value), (part) => part.toLowerCase())],
    capitalize: ['s', (value: Value) => capitalized(str(value))],
    title: ['s', title],
    trim: [
      'value chars?',
      (value: Value, characters: Value = null) =>
        strings.strip(str(value), characters === null ? null : rawOf(characters, 'strip arg'), true, true),
    ],
    center: [
      'value width?',
      (value: Value, width: Value = 80) => {
        checkLength(indexOf(width))
        return strings.center(str(value), indexOf(width), ' ')
      },
    ],
    replace: [
      's old new count?',
      (value: Value, old: Value, by: Value, count: Value = null) =>
        strings.replace(str(value), str(old), str(by), count === null ? -1 : indexOf(count)),
    ],
    string: ['value', (value: Value) => str(value)],
    indent: ['s width? first? blank?', indent],
    truncate: ['s length? killwords? end? leeway?', truncate],
    wordwrap: [
      's width? break_long_words? wrapstring? break_on_hyphens?',
      (value: Value, width: Value = 79, long: Value = true, wrap: Value = null, hyphens: Value = true) =>
        wordWrap(
          stringOf(value, 'the value'),
          indexOf(width),
          isTrue(long),
          wrap === null ? '\n' : stringOf(wrap, 'wrapstring'),
          isTrue(hyphens),
        ),
    ],
    wordcount: ['s', wordCount],
    escape: ['s', escapeHtml],
    e: ['s', escapeHtml],
    forceescape: [
      'value',
      (value: Value) => escapeHtml(concat([raw(str(value)) === '' ? '' : plain(str(value))])),
    ],
    safe: ['value', (value: Value) => safe(str(value))],
    striptags: ['value', stripTags],
    urlencode: ['value', urlEncode],
    xmlattr: ['d autospace?', xmlAttributes],
    tojson: ['x ensure_ascii? indent? separators? sort_keys?', json],
    attr: ['obj name', attr],
  }),
  ['format', formatFilter()],
  refused('urlize', 'chats are not HTML'),
  refused('random', 'a chat template gives the same text every time'),
  refused('pprint', 'use tojson'),
])

function plain(text: Str): Str {
  return typeof text === 'string' ? text : new Text(text.text, text.runs)
}

function formatFilter(): Native {
  return (args, keywords) => {
    const [format, ...values] = args
    if (keywords !== null && values.length > 0) {
      throw new Failure('TemplateError', "can't handle positional and keyword arguments at the same time")
    }
    const named = keywords && new Dict([...keywords].map(([key, value]) => ({ key, value })))
    return percent(str(format!), named ?? new Tuple(values))
  }
}
