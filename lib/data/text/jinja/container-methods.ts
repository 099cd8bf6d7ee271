import { valueError } from './failure.js'
import { itemsOf, View } from './iteration.js'
import { charge } from './limits.js'
import { type Natives, natives } from './native.js'
import { indexOf as intArgument } from './numbers.js'
import { equal } from './operators.js'
import { Dict, List, type Value } from './values.js'

export const dictMethods: Natives = natives({
  items: ['dict', (dict: Dict) => new View(dict, 'items')],
  keys: ['dict', (dict: Dict) => new View(dict, 'keys')],
  values: ['dict', (dict: Dict) => new View(dict, 'values')],
  get: [
    'dict key other? /',
    (dict: Dict, key: Value, other: Value = null) => {
      const value = dict.find(key)
      return value === undefined ? other : value
    },
  ],
  copy: ['dict', (dict: Dict) => new Dict(dict.entries())],
  fromkeys: [
    'dict keys value? /',
    (_dict: Dict, keys: Value, value: Value = null) => new Dict(itemsOf(keys).map((key) => ({ key, value }))),
  ],
})

/** Methods of lists, tuples and ranges. */
export const sequenceMethods: Natives = natives({
  index: [
    'items item from? to? /',
    (of: Value, item: Value, from: Value = 0, to?: Value) => {
      const items = itemsOf(of)
      charge(items.length)
      const clamp = (index: number) => (index < 0 ? Math.max(0, index + items.length) : index)
      const end = to === undefined ? items.length : clamp(intArgument(to))
      for (let i = clamp(intArgument(from)); i < Math.min(end, items.length); i++) {
        if (equal(items[i]!, item)) return i
      }
      throw valueError('the item is not in the list')
    },
  ],
  count: [
    'items item /',
    (of: Value, item: Value) => {
      const items = itemsOf(of)
      charge(items.length)
      return items.filter((other) => equal(other, item)).length
    },
  ],
  copy: ['items', (of: Value) => new List([...itemsOf(of)])],
})
