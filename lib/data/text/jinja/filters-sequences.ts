import { Failure, typeError } from './failure.js'
import { generated, Iter, itemsOf, iterate, lengthOf, sizedItems, View } from './iteration.js'
import { type Getter, getter } from './keys.js'
import { isTrue, rawOf, typeName } from './kinds.js'
import { charge } from './limits.js'
import { filterNamed, testNamed } from './names.js'
import { type Native, type Natives, native, natives } from './native.js'
import { indexOf } from './numbers.js'
import { binary } from './operators.js'
import { str } from './spelling.js'
import * as strings from './strings.js'
import { characters, concat, isStr, type Str } from './text.js'
import { Dict, type Keywords, List, Undefined, type Value } from './values.js'

function batch(value: Value, size: Value, fill: Value = null): Value {
  const count = indexOf(size)
  return generated(value, (items) => {
    const row: Value[] = []
    // As in Jinja2, a row is full at exactly this size.
    for (
      let next = items.next();
      next !== undefined;
      next = row.length === count ? undefined : items.next()
    ) {
      row.push(next)
    }
    if (row.length === 0) return undefined
    charge(16 + row.length)
    if (fill !== null && row.length < count) {
      charge(count)
      while (row.length < count) row.push(fill)
    }
    return new List(row)
  })
}

function sliced(value: Value, count: Value, fill: Value = null): Value {
  const columns = indexOf(count)
  let items: readonly Value[] | null = null
  let at = 0
  return new Iter(() => {
    items ??= itemsOf(value)
    if (columns === 0) throw new Failure('ZeroDivisionError', 'integer division or modulo by zero')
    if (at >= columns) return undefined
    const size = Math.floor(items.length / columns)
    const extra = items.length % columns
    const from = at * size + Math.min(at, extra)
    const column: Value[] = items.slice(from, from + size + (at < extra ? 1 : 0))
    if (fill !== null && at >= extra) column.push(fill)
    at++
    charge(8 + column.length)
    return new List([...column])
  })
}

function reverse(value: Value): Value {
  if (isStr(value)) {
    return concat([...characters(value)].reverse())
  }
  if (value instanceof Iter) return new List([...itemsOf(value)].reverse())
  const items = sizedItems(value)
  if (items === null) throw new Failure('TemplateError', 'argument must be iterable')
  const backwards = [...items].reverse()
  let at = 0
  return new Iter(() => backwards[at++], `${typeName(value)}_reverseiterator`)
}

function length(value: Value): Value {
  const count = lengthOf(value)
  if (count === null) throw typeError(`object of type '${typeName(value)}' has no len()`)
  return count
}

function orUndefined(value: Value | undefined, message: string): Value {
  return value === undefined ? new Undefined(() => message) : value
}

function last(value: Value): Value {
  const items = sizedItems(value)
  if (items === null) throw typeError(`'${typeName(value)}' object is not reversible`)
  return orUndefined(items[items.length - 1], 'No last item, sequence was empty.')
}

function sum(value: Value, attribute: Value = null, start: Value = 0): Value {
  if (isStr(start)) throw typeError("sum() can't sum strings [use ''.join(seq) instead]")
  const key = getter(attribute)
  let total: Value = start
  for (const item of itemsOf(value)) {
    charge(1)
    total = binary('+', total, key(item))
  }
  return total
}

function joined(value: Value, separator: Value = '', attribute: Value = null): Str {
  const key = getter(attribute)
  return strings.join(
    str(separator),
    itemsOf(value).map((item) => {
      charge(4)
      return str(key(item))
    }),
  )
}

const map: Native = (args, keywords) => {
  const value = args[0]!
  const rest = args.slice(1)
  if (!isTrue(value)) return generated('', (items) => items.next())
  let apply: Getter | null = null
  return generated(value, (items) => {
    apply ??= mapper(rest, keywords)
    const next = items.next()
    charge(2)
    return next === undefined ? undefined : apply(next)
  })
}

function mapper(args: readonly Value[], keywords: Keywords | null): Getter {
  if (args.length === 0 && keywords?.has('attribute')) {
    for (const name of keywords.keys()) {
      if (name !== 'attribute' && name !== 'default') {
        throw new Failure('TemplateError', `Unexpected keyword argument '${name}'`)
      }
    }
    return getter(keywords.get('attribute'), keywords.get('default') ?? null)
  }
  if (args.length === 0) throw new Failure('TemplateError', 'map requires a filter argument')
  const name = rawOf(args[0]!, 'the name of a filter')
  const filter = filterNamed(name)
  if (filter === undefined) throw new Failure('TemplateError', `no filter is named '${name}'`)
  return (item) => filter([item, ...args.slice(1)], keywords)
}

/** select, reject, selectattr and rejectattr. */
function selection(wanted: boolean, attribute: boolean): Native {
  return (args, keywords) => {
    const value = args[0]!
    const rest = args.slice(1)
    if (!isTrue(value)) return generated('', (items) => items.next())
    let holds: ((item: Value) => boolean) | null = null
    return generated(value, (items) => {
      holds ??= condition(rest, keywords, attribute)
      for (let next = items.next(); next !== undefined; next = items.next()) {
        charge(2)
        if (holds(next) === wanted) return next
      }
      return undefined
    })
  }
}

function condition(
  args: readonly Value[],
  keywords: Keywords | null,
  attribute: boolean,
): (item: Value) => boolean {
  if (attribute && args.length === 0) {
    throw new Failure('TemplateError', 'Missing parameter for attribute name')
  }
  const get = attribute ? getter(args[0]) : (item: Value) => item
  const rest = attribute ? args.slice(1) : args
  if (rest.length === 0) return (item) => isTrue(get(item))
  const name = rawOf(rest[0]!, 'the name of a test')
  const test = testNamed(name)
  if (test === undefined) throw new Failure('TemplateError', `no test is named '${name}'`)
  return (item) => test([get(item), ...rest.slice(1)], keywords)
}

const otherwise = native(
  'default',
  'value default_value? boolean?',
  (value: Value, other: Value = '', boolean: Value = false) =>
    value instanceof Undefined || (isTrue(boolean) && !isTrue(value)) ? other : value,
)

function items(value: Value): Value {
  if (value instanceof Undefined) return generated('', (cursor) => cursor.next())
  if (value instanceof Dict) return generated(new View(value, 'items'), (cursor) => cursor.next())
  return new Iter(() => {
    throw typeError('Can only get item pairs from a mapping.')
  })
}

export const sequenceFilters: Natives = new Map<string, Native>([
  ...natives({
    first: [
      'seq',
      (value: Value) => orUndefined(iterate(value).next(), 'No first item, sequence was empty.'),
    ],
    last: ['seq', last],
    length: ['value', length],
    count: ['value', length],
    list: ['value', (value: Value) => new List([...itemsOf(value)])],
    reverse: ['value', reverse],
    batch: ['value linecount fill_with?', batch],
    slice: ['value slices fill_with?', sliced],
    sum: ['iterable attribute? start?', sum],
    join: ['value d? attribute?', joined],
    items: ['value', items],
  }),
  ['map', map],
  ['select', selection(true, false)],
  ['reject', selection(false, false)],
  ['selectattr', selection(true, true)],
  ['rejectattr', selection(false, true)],
  ['default', otherwise],
  ['d', otherwise],
])
