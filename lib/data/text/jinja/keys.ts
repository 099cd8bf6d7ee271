import { getItem } from './access.js'
import { isTrue } from './kinds.js'
import { charge } from './limits.js'
import * as strings from './strings.js'
import { isStr, raw } from './text.js'
import { Undefined, type Value } from './values.js'

export type Getter = (item: Value) => Value

/** Reads `a.b.0` of items; `attribute` null: the items themselves. */
export function getter(attribute: Value | undefined, fallback: Value = null): Getter {
  if (attribute === undefined || attribute === null) return (item) => item
  const parts: Value[] = isStr(attribute)
    ? raw(attribute)
        .split('.')
        .map((part) => (/^\d+$/.test(part) ? Number(part) : part))
    : [attribute]
  return (item) => {
    charge(2)
    let value = item
    for (const part of parts) {
      value = getItem(value, part)
      if (fallback !== null && value instanceof Undefined) value = fallback
    }
    return value
  }
}

function folded(value: Value): Value {
  return isStr(value) ? strings.cased(value, (part) => part.toLowerCase()) : value
}

export function keyOf(attribute: Value | undefined, sensitive: Value, fallback: Value = null): Getter {
  const get = getter(attribute, fallback)
  return isTrue(sensitive) ? get : (item) => folded(get(item))
}
