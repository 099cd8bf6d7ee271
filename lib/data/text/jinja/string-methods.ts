import { capitalize, casefold, isLowerCase, isUpperCase, swapCase, titleCase } from './case.js'
import { typeError, valueError } from './failure.js'
import { isTrue, rawOf, stringOf, typeName } from './kinds.js'
import { charge, chargeSearch, checkLength } from './limits.js'
import { type Definitions, type Natives, natives } from './native.js'
import { indexOf as intArgument } from './numbers.js'
import { codePoints } from './points.js'
import * as strings from './strings.js'
import { characters, concat, raw, type Str, slice } from './text.js'
import { Dict, List, Tuple, type Value } from './values.js'

const MOST = Number.MAX_SAFE_INTEGER

function optional(value: Value | undefined, what: string): string | null {
  return value === undefined || value === null ? null : rawOf(value, what)
}

function stripped(name: string, left: boolean, right: boolean): Definitions[string] {
  return [
    'text characters? /',
    (text: Str, characters?: Value) => strings.strip(text, optional(characters, `${name} arg`), left, right),
  ]
}

/** `find` and the like: `missing` gives the result where nothing is found. */
function finder(last: boolean, missing: () => number): Definitions[string] {
  return [
    'text part from? to? /',
    (text: Str, part: Value, from?: Value, to?: Value) => {
      const source = raw(text)
      const wanted = rawOf(part, 'part')
      chargeSearch(source.length, wanted.length)
      const span = strings.stretch(source, bound(from, 0), bound(to, MOST))
      if (span === null) return missing()
      const [start, end] = span
      const at = last
        ? end - wanted.length < start
          ? -1
          : source.lastIndexOf(wanted, end - wanted.length)
        : source.indexOf(wanted, start)
      return at < start || at + wanted.length > end ? missing() : strings.pointIndex(source, at)
    },
  ]
}

function bound(value: Value | undefined, otherwise: number): number {
  return value === undefined || value === null ? otherwise : intArgument(value)
}

function notFound(): number {
  throw valueError('substring not found')
}

/** `startswith` and `endswith`. */
function edge(name: string, end: boolean): Definitions[string] {
  return [
    'text edge from? to? /',
    (text: Str, edges: Value, from?: Value, to?: Value) => {
      if (!(edges instanceof Tuple)) rawOf(edges, `${name} first arg`)
      const span = strings.stretch(raw(text), bound(from, 0), bound(to, MOST))
      const all = edges instanceof Tuple ? edges.items : [edges]
      const wanted = all.map((one) => rawOf(one, `${name} first arg`))
      if (span === null) return false
      const part = raw(text).slice(...span)
      return wanted.some((one) => (end ? part.endsWith(one) : part.startsWith(one)))
    },
  ]
}

/** Parts around a separator, with three parts in every case. */
function partition(last: boolean): Definitions[string] {
  return [
    'text separator /',
    (text: Str, separator: Value) => {
      const wanted = rawOf(separator, 'separator')
      if (wanted === '') throw valueError('empty separator')
      chargeSearch(raw(text).length, wanted.length)
      const at = last ? raw(text).lastIndexOf(wanted) : raw(text).indexOf(wanted)
      if (at < 0) return new Tuple(last ? ['', '', text] : [text, '', ''])
      return new Tuple([
        slice(text, 0, at),
        stringOf(separator, 'separator'),
        slice(text, at + wanted.length),
      ])
    },
  ]
}

function justified(place: (text: Str, width: number, fill: string) => Str): Definitions[string] {
  return [
    'text width fill? /',
    (text: Str, width: Value, fill: Value = ' ') => {
      const character = rawOf(fill, 'the fill character')
      if (codePoints(character) !== 1)
        throw typeError('the fill character must be exactly one character long')
      const wanted = intArgument(width)
      checkLength(wanted)
      return place(text, wanted, character)
    },
  ]
}

/** A question about all characters of a text. */
function every(pattern: RegExp, empty = false): Definitions[string] {
  return [
    'text',
    (text: Str) => {
      charge(raw(text).length)
      return raw(text) === '' ? empty : pattern.test(raw(text))
    },
  ]
}

function changed(change: (part: string) => string): Definitions[string] {
  return ['text', (text: Str) => strings.cased(text, change)]
}

function splitter(run: typeof strings.split): Definitions[string] {
  return [
    'text sep? maxsplit?',
    (text: Str, separator?: Value, limit?: Value) =>
      new List(run(text, optional(separator, 'sep'), bound(limit, -1))),
  ]
}

const methods: Definitions = {
  strip: stripped('strip', true, true),
  lstrip: stripped('lstrip', true, false),
  rstrip: stripped('rstrip', false, true),
  split: splitter(strings.split),
  rsplit: splitter(strings.splitRight),
  splitlines: [
    'text keepends?',
    (text: Str, keep: Value = false) => new List(strings.splitLines(text, isTrue(keep))),
  ],
  replace: [
    'text old new count? /',
    (text: Str, old: Value, by: Value, count: Value = -1) =>
      strings.replace(
        text,
        stringOf(old, 'replace() argument 1'),
        stringOf(by, 'replace() argument 2'),
        intArgument(count),
      ),
  ],
  join: ['separator parts /', (separator: Str, parts: Value) => strings.joinValues(separator, parts)],
  upper: changed((part) => part.toUpperCase()),
  lower: changed((part) => part.toLowerCase()),
  title: changed(titleCase),
  capitalize: ['text', (text: Str) => firstChanged(text)],
  swapcase: changed(swapCase),
  casefold: changed(casefold),
  startswith: edge('startswith', false),
  endswith: edge('endswith', true),
  find: finder(false, () => -1),
  rfind: finder(true, () => -1),
  index: finder(false, notFound),
  rindex: finder(true, notFound),
  count: [
    'text part from? to? /',
    (text: Str, part: Value, from?: Value, to?: Value) => {
      const wanted = rawOf(part, 'part')
      const span = strings.stretch(raw(text), bound(from, 0), bound(to, MOST))
      if (span === null) return 0
      const source = raw(text).slice(...span)
      chargeSearch(source.length, wanted.length)
      if (wanted === '') return codePoints(source) + 1
      let count = 0
      for (let at = source.indexOf(wanted); at >= 0; at = source.indexOf(wanted, at + wanted.length)) {
        charge(1)
        count++
      }
      return count
    },
  ],
  removeprefix: [
    'text prefix /',
    (text: Str, prefix: Value) => {
      const wanted = rawOf(prefix, 'removeprefix() argument')
      return raw(text).startsWith(wanted) ? slice(text, wanted.length) : text
    },
  ],
  removesuffix: [
    'text suffix /',
    (text: Str, suffix: Value) => {
      const wanted = rawOf(suffix, 'removesuffix() argument')
      const end = raw(text).length - wanted.length
      return wanted !== '' && raw(text).endsWith(wanted) ? slice(text, 0, end) : text
    },
  ],
  partition: partition(false),
  rpartition: partition(true),
  center: justified(strings.center),
  ljust: justified((text, width, fill) => strings.pad(text, 0, width - codePoints(raw(text)), fill)),
  rjust: justified((text, width, fill) => strings.pad(text, width - codePoints(raw(text)), 0, fill)),
  zfill: [
    'text width /',
    (text: Str, width: Value) => {
      const wanted = intArgument(width)
      checkLength(wanted)
      const zeros = wanted - codePoints(raw(text))
      if (zeros <= 0) return text
      const sign = '+-'.includes(raw(text)[0] ?? ' ') ? 1 : 0
      return concat([slice(text, 0, sign), strings.pad(slice(text, sign), zeros, 0, '0')])
    },
  ],
  expandtabs: [
    'text tabsize?',
    (text: Str, size: Value = 8) => {
      checkLength(intArgument(size))
      return strings.expandTabs(text, intArgument(size))
    },
  ],
  isdigit: every(
    /^[\p{Nd}\u00b2\u00b3\u00b9\u1369-\u1371\u19da\u2070\u2074-\u2079\u2080-\u2089\u2460-\u2468\u2474-\u247c\u2488-\u2490\u24ea\u24f5-\u24fd\u24ff\u2776-\u277e\u2780-\u2788\u278a-\u2792]+$/u,
  ),
  isdecimal: every(/^\p{Nd}+$/u),
  isnumeric: every(
    /^[\p{N}\u4e00\u4e03\u4e09\u4e5d\u4e8c\u4e94\u516b\u516d\u5341\u56db\u5343\u767e\u842c\u96f6]+$/u,
  ),
  isalpha: every(/^\p{L}+$/u),
  isalnum: every(/^[\p{L}\p{N}]+$/u),
  // biome-ignore lint/suspicious/noControlCharactersInRegex: white space of Python
  isspace: every(/^[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+$/),
  isascii: every(/^\p{ASCII}*$/u, true),
  isidentifier: every(/^[\p{ID_Start}_]\p{ID_Continue}*$/u),
  isprintable: every(/^[^\p{C}\p{Zl}\p{Zp}\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]*$/u, true),
  islower: ['text', (text: Str) => isLowerCase(raw(text))],
  isupper: ['text', (text: Str) => isUpperCase(raw(text))],
  istitle: ['text', (text: Str) => /\p{Cased}/u.test(raw(text)) && titleCase(raw(text)) === raw(text)],
  encode: [
    'text encoding? errors?',
    () => {
      throw typeError('encode() is refused: a chat template has no bytes')
    },
  ],
  translate: [
    'text table /',
    (text: Str, table: Value) => {
      if (!(table instanceof Dict)) throw typeError(`'${typeName(table)}' object is not a translation table`)
      const parts: Str[] = []
      for (const character of characters(text)) {
        charge(8)
        const to = table.find(raw(character).codePointAt(0)!)
        if (to === undefined) parts.push(character)
        else if (typeof to === 'number') parts.push(String.fromCodePoint(to))
        else if (to !== null) parts.push(stringOf(to, 'translation'))
      }
      return concat(parts)
    },
  ],
}

/** The first character in title case, the others in lower case. */
function firstChanged(text: Str): Str {
  const source = raw(text)
  if (source === '') return text
  const end = source.codePointAt(0)! > 0xffff ? 2 : 1
  return concat([
    strings.cased(slice(text, 0, end), capitalize),
    strings.cased(slice(text, end), (part) => part.toLowerCase()),
  ])
}

export const capitalized = firstChanged

export const textMethods: Natives = natives(methods)
