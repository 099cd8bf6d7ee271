import { typeError } from './failure.js'
import { iterate, Range, View } from './iteration.js'
import { typeName } from './kinds.js'
import { charge, chargeSearch, checkLength, checkNesting } from './limits.js'
import { arithmetic, compareNumbers, intOf, numeric } from './numbers.js'
import { percent } from './percent.js'
import { compareText, concat, isStr, raw, type Str, slice } from './text.js'
import { Dict, List, Num, Tuple, Undefined, type Value } from './values.js'

/** Python's ==. */
export function equal(a: Value, b: Value, depth = 0): boolean {
  if (a === b) return true
  checkNesting(depth)
  if (isStr(a)) {
    if (!isStr(b)) return false
    const x = raw(a)
    charge(x.length / 256)
    return x === raw(b)
  }
  const x = numeric(a)
  if (x !== null) {
    const y = numeric(b)
    return y !== null && compareNumbers(x, y) === 0
  }
  if (a instanceof Undefined) return b instanceof Undefined
  if (a instanceof List && b instanceof List) return equalItems(a.items, b.items, depth)
  if (a instanceof Tuple && b instanceof Tuple) return equalItems(a.items, b.items, depth)
  if (a instanceof Range && b instanceof Range) return equalItems(a.items, b.items, depth)
  if (a instanceof Dict && b instanceof Dict) return equalDicts(a, b, depth)
  if (a instanceof View && b instanceof View && a.kind !== 'values' && b.kind !== 'values') {
    return a.items.length === b.items.length && a.items.every((item) => contains(b, item))
  }
  return false
}

function equalItems(a: readonly Value[], b: readonly Value[], depth: number): boolean {
  charge(a.length)
  return a.length === b.length && a.every((item, i) => equal(item, b[i]!, depth + 1))
}

function equalDicts(a: Dict, b: Dict, depth: number): boolean {
  if (a.size !== b.size) return false
  return a.entries().every(({ key, value }) => {
    const other = b.find(key)
    return other !== undefined && equal(value, other, depth + 1)
  })
}

/** Orders two values as Python's < and > do; NaN where neither holds. */
export function compare(operator: string, a: Value, b: Value, depth = 0): number {
  checkNesting(depth)
  charge(1)
  const x = numeric(a)
  const y = numeric(b)
  if (x !== null && y !== null) return compareNumbers(x, y)
  if (isStr(a) && isStr(b)) {
    charge(raw(a).length / 64)
    return compareText(raw(a), raw(b))
  }
  if ((a instanceof List && b instanceof List) || (a instanceof Tuple && b instanceof Tuple)) {
    const { items } = a
    const others = b.items
    for (let i = 0; i < items.length && i < others.length; i++) {
      if (!equal(items[i]!, others[i]!, depth + 1)) return compare(operator, items[i]!, others[i]!, depth + 1)
    }
    return items.length - others.length
  }
  if (a instanceof Undefined) a.fail()
  if (b instanceof Undefined) b.fail()
  throw typeError(`'${operator}' not supported between instances of '${typeName(a)}' and '${typeName(b)}'`)
}

export function compareKeys(a: Value, b: Value): number {
  return compare('<', a, b) || 0
}

export function ordered(operator: string, a: Value, b: Value): boolean {
  switch (operator) {
    case '==':
      return equal(a, b)
    case '!=':
      return !equal(a, b)
    case 'in':
      return contains(b, a)
    case 'not in':
      return !contains(b, a)
    case '<':
      return compare(operator, a, b) < 0
    case '<=':
      return compare(operator, a, b) <= 0
    case '>':
      return compare(operator, a, b) > 0
    default:
      return compare(operator, a, b) >= 0
  }
}

/** Python's `item in container`. */
export function contains(container: Value, item: Value): boolean {
  if (isStr(container)) {
    if (!isStr(item)) {
      throw typeError(`'in <string>' requires string as left operand, not ${typeName(item)}`)
    }
    chargeSearch(raw(container).length, raw(item).length)
    return raw(container).includes(raw(item))
  }
  if (container instanceof Dict) return container.find(item) !== undefined
  if (container instanceof View && container.kind === 'keys') return container.dict.find(item) !== undefined
  const items = iterate(container)
  for (let next = items.next(); next !== undefined; next = items.next()) {
    charge(1)
    if (equal(next, item)) return true
  }
  return false
}

/** Python's binary operators but `and` and `or`. */
export function binary(operator: string, a: Value, b: Value): Value {
  charge(1)
  const x = numeric(a)
  if (x !== null) {
    const y = numeric(b)
    if (y !== null) return arithmetic(operator, x, y)
  }
  if (a instanceof Undefined) a.fail()
  if (operator === '%' && isStr(a)) return percent(a, b)
  if (b instanceof Undefined) b.fail()
  if (operator === '+') {
    if (isStr(a) && isStr(b)) return concat([a, b])
    if (a instanceof List && b instanceof List) return new List(joined(a.items, b.items))
    if (a instanceof Tuple && b instanceof Tuple) return new Tuple(joined(a.items, b.items))
  }
  if (operator === '*') {
    const repeated = repeat(a, b) ?? repeat(b, a)
    if (repeated !== null) return repeated
  }
  throw typeError(`unsupported operand type(s) for ${operator}: '${typeName(a)}' and '${typeName(b)}'`)
}

function joined(a: readonly Value[], b: readonly Value[]): Value[] {
  charge(a.length + b.length)
  return [...a, ...b]
}

function repeat(of: Value, times: Value): Value | null {
  const int = intOf(times)
  if (int === null) return null
  const count = int < 0 ? 0 : Number(int)
  if (isStr(of)) return repeatText(of, count)
  if (!(of instanceof List || of instanceof Tuple)) return null
  charge(of.items.length * count)
  const items: Value[] = []
  for (let i = 0; i < count && of.items.length > 0; i++) for (const item of of.items) items.push(item)
  return of instanceof List ? new List(items) : new Tuple(items)
}

function repeatText(text: Str, count: number): Str {
  checkLength(raw(text).length * count)
  charge((raw(text).length * count) / 32)
  if (typeof text === 'string' || raw(text) === '')
    return raw(text).repeat(text === '' || count === 0 ? 0 : count)
  charge(count)
  return concat(Array.from({ length: count }, () => slice(text, 0)))
}

export function unary(operator: '-' | '+', operand: Value): Value {
  const number = numeric(operand)
  if (number === null) {
    if (operand instanceof Undefined) operand.fail()
    throw typeError(`bad operand type for unary ${operator}: '${typeName(operand)}'`)
  }
  if (operator === '+') return typeof operand === 'boolean' ? Number(operand) : operand
  if (number.float) return new Num(-number.value, true)
  return arithmetic('-', { value: 0, float: false }, number)
}
