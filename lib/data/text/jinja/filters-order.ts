import { Failure, typeError } from './failure.js'
import { generated, itemsOf, View } from './iteration.js'
import { type Getter, getter, keyOf } from './keys.js'
import { isTrue, rawOf, typeName } from './kinds.js'
import { charge } from './limits.js'
import { type Natives, natives } from './native.js'
import { compare, equal } from './operators.js'
import { isStr, raw } from './text.js'
import { Dict, hash, List, Tuple, Undefined, type Value } from './values.js'

/** Python's sorted(): stable, also in reverse. */
function sorted(items: readonly Value[], key: Getter, reverse: boolean): Value[] {
  charge(8 * items.length)
  const keyed = items.map((item) => ({ item, key: key(item) }))
  const order = (a: Value, b: Value) => (lessThan(a, b) ? -1 : lessThan(b, a) ? 1 : 0)
  keyed.sort((a, b) => (reverse ? order(b.key, a.key) : order(a.key, b.key)))
  return keyed.map(({ item }) => item)
}

function lessThan(a: Value, b: Value): boolean {
  charge(10)
  return compare('<', a, b) < 0
}

function sort(
  value: Value,
  reverse: Value = false,
  sensitive: Value = false,
  attribute: Value = null,
): Value {
  const names: Value[] = isStr(attribute) ? raw(attribute).split(',') : [attribute]
  const keys = names.map((name) => keyOf(name, sensitive))
  return new List(sorted(itemsOf(value), (item) => new List(keys.map((key) => key(item))), isTrue(reverse)))
}

function dictSort(value: Value, sensitive: Value = false, by: Value = 'key', reverse: Value = false): Value {
  const at = ['key', 'value'].indexOf(rawOf(by, 'by'))
  if (at < 0) throw new Failure('TemplateError', 'You can only sort by either "key" or "value"')
  if (!(value instanceof Dict)) {
    if (value instanceof Undefined) value.fail()
    throw typeError(`'${typeName(value)}' object has no attribute 'items'`)
  }
  const key = keyOf(null, sensitive)
  return new List(
    sorted(new View(value, 'items').items, (item) => key((item as Tuple).items[at]!), isTrue(reverse)),
  )
}

function unique(value: Value, sensitive: Value = false, attribute: Value = null): Value {
  const key = keyOf(attribute, sensitive)
  const seen = new Set<unknown>()
  return generated(value, (items) => {
    for (let next = items.next(); next !== undefined; next = items.next()) {
      charge(2)
      const at = hash(key(next))
      if (seen.has(at)) continue
      seen.add(at)
      return next
    }
    return undefined
  })
}

function extreme(largest: boolean): [string, (value: Value, sensitive?: Value, attribute?: Value) => Value] {
  return [
    'value case_sensitive? attribute?',
    (value: Value, sensitive: Value = false, attribute: Value = null) => {
      const key = keyOf(attribute, sensitive)
      const items = itemsOf(value)
      if (items.length === 0) return new Undefined(() => 'No aggregated item, sequence was empty.')
      let best: Value = items[0]!
      for (const item of items.slice(1)) {
        if (largest ? lessThan(key(best), key(item)) : lessThan(key(item), key(best))) best = item
      }
      return best
    },
  ]
}

function groupBy(value: Value, attribute: Value, fallback: Value = null, sensitive: Value = false): Value {
  const key = keyOf(attribute, sensitive, fallback)
  const shown = isTrue(sensitive) ? key : getter(attribute, fallback)
  const groups: { key: Value; items: Value[] }[] = []
  for (const item of sorted(itemsOf(value), key, false)) {
    const last = groups[groups.length - 1]
    if (last !== undefined && equal(last.key, key(item))) last.items.push(item)
    else groups.push({ key: key(item), items: [item] })
  }
  return new List(
    groups.map(({ items }) => new Tuple([shown(items[0]!), new List(items)], ['grouper', 'list'])),
  )
}

export const orderFilters: Natives = natives({
  sort: ['value reverse? case_sensitive? attribute?', sort],
  dictsort: ['value case_sensitive? by? reverse?', dictSort],
  unique: ['value case_sensitive? attribute?', unique],
  min: extreme(false),
  max: extreme(true),
  groupby: ['value attribute default? case_sensitive?', groupBy],
})
