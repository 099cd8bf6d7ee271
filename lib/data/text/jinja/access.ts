import { dictMethods, sequenceMethods } from './container-methods.js'
import { typeError, valueError } from './failure.js'
import { formatMethods } from './format.js'
import { Range } from './iteration.js'
import { typeName } from './kinds.js'
import { charge } from './limits.js'
import type { Native, Natives } from './native.js'
import { indexOf, intOf, numeric } from './numbers.js'
import { pointsOf } from './points.js'
import { repr } from './spelling.js'
import { textMethods } from './string-methods.js'
import { concat, isStr, raw, type Str, slice } from './text.js'
import { Callable, Dict, float, hash, List, Num, Special, Tuple, Undefined, type Value } from './values.js'

const stringMethods: Natives = new Map([...textMethods, ...formatMethods({ getAttribute, getItem })])

/** `value.name`: an attribute of the Python type, then an item. */
export function getAttribute(value: Value, name: string): Value {
  if (value instanceof Undefined && !PYTHON_OBJECT.has(name)) value.fail()
  if (isUnsafe(value, name)) {
    return new Undefined(
      () => `access to attribute '${name}' of '${typeName(value)}' object is unsafe.`,
      'SecurityError',
    )
  }
  const attribute = attributeOf(value, name)
  if (attribute !== undefined) return attribute
  const item = value instanceof Dict ? value.get(name) : undefined
  return item === undefined ? missingAttribute(value, name) : item
}

export function missingAttribute(value: Value, name: string): Undefined {
  return new Undefined(() => `'${objectName(value)}' has no attribute '${name}'`)
}

function objectName(value: Value): string {
  return value === null ? 'None' : `${typeName(value)} object`
}

/** `value[index]`: an item, then an attribute of the Python type. */
export function getItem(value: Value, index: Value): Value {
  if (value instanceof Undefined) value.fail()
  if (value instanceof Dict) {
    const unhashable = index instanceof List || index instanceof Dict
    const item = unhashable ? undefined : value.find(index)
    if (item !== undefined) return item
  } else {
    const int = intOf(index)
    if (int !== null) {
      const item = itemAt(value, Number(int))
      if (item !== undefined) return item
    }
  }
  if (!isStr(index)) {
    return new Undefined(() => `${objectName(value)} has no element ${raw(repr(index))}`)
  }
  const name = raw(index)
  return value instanceof Dict && attributeOf(value, name) === undefined && !isUnsafe(value, name)
    ? missingAttribute(value, name)
    : getAttribute(value, name)
}

function itemAt(value: Value, index: number): Value | undefined {
  if (isStr(value)) {
    const points = pointsOf(raw(value))
    const i = index < 0 ? index + points.length : index
    return i >= 0 && i < points.length ? slice(value, points.at(i), points.at(i + 1)) : undefined
  }
  if (value instanceof List || value instanceof Tuple || value instanceof Range) {
    const { items } = value
    return items[index < 0 ? index + items.length : index]
  }
  return undefined
}

/** `value[from:to:step]`. */
export function getSlice(value: Value, bounds: readonly Value[]): Value {
  if (value instanceof Undefined) value.fail()
  if (isStr(value)) return sliceText(value, bounds)
  if (value instanceof List) return new List(sliceItems(value.items, bounds))
  if (value instanceof Tuple) return new Tuple(sliceItems(value.items, bounds))
  if (value instanceof Range) {
    const [from, to, step] = sliceBounds(value.length, bounds)
    return new Range(value.start + from * value.step, value.start + to * value.step, value.step * step)
  }
  if (value instanceof Dict) hash(new List([]))
  throw typeError(`'${typeName(value)}' object is not subscriptable`)
}

function sliceItems(items: readonly Value[], bounds: readonly Value[]): Value[] {
  const [from, to, step] = sliceBounds(items.length, bounds)
  const taken = step === 1 ? items.slice(from, to) : []
  if (step !== 1) for (let i = from; step > 0 ? i < to : i > to; i += step) taken.push(items[i]!)
  charge(taken.length / 8)
  return taken
}

function sliceText(text: Str, bounds: readonly Value[]): Str {
  const source = raw(text)
  const points = pointsOf(source)
  const [from, to, step] = sliceBounds(points.length, bounds)
  if (step === 1) return from < to ? slice(text, points.at(from), points.at(to)) : ''
  const parts: Str[] = []
  for (let i = from; step > 0 ? i < to : i > to; i += step) {
    charge(4)
    parts.push(slice(text, points.at(i), points.at(i + 1)))
  }
  return concat(parts)
}

/** Start, end and step within a length, as Python counts them. */
export function sliceBounds(length: number, bounds: readonly Value[]): [number, number, number] {
  const [from, to, by] = bounds.map((bound) =>
    bound === null || bound === undefined ? null : sliceIndex(bound),
  )
  const step = by ?? 1
  if (step === 0) throw valueError('slice step cannot be zero')
  const clamp = (index: number) => {
    const at = index < 0 ? index + length : index
    return step > 0 ? Math.min(Math.max(at, 0), length) : Math.min(Math.max(at, -1), length - 1)
  }
  const first = from === null || from === undefined ? (step > 0 ? 0 : length - 1) : clamp(from)
  const last = to === null || to === undefined ? (step > 0 ? length : -1) : clamp(to)
  return [first, last, step]
}

function sliceIndex(bound: Value): number {
  if (intOf(bound) === null) {
    throw typeError('slice indices must be integers or None or have an __index__ method')
  }
  return indexOf(bound)
}

/** Methods that change a list or a dict, which the sandbox refuses. */
const LIST_CHANGES = new Set(['append', 'clear', 'pop', 'reverse', 'insert', 'sort', 'extend', 'remove'])
const DICT_CHANGES = new Set(['clear', 'pop', 'popitem', 'setdefault', 'update'])

export function stringMethod(name: string): Native | undefined {
  return stringMethods.get(name)
}

export function dictMethod(name: string): Native | undefined {
  return dictMethods.get(name)
}

/** Whether the sandbox hides an attribute. */
export function isUnsafe(value: Value, name: string): boolean {
  if (value instanceof List) return LIST_CHANGES.has(name) || name.startsWith('__')
  if (value instanceof Dict) return DICT_CHANGES.has(name) || PYTHON_OBJECT.has(name)
  return name.startsWith('__') && !(value instanceof Special)
}

/** Special attributes of every dict; other keys that begin with an underscore are keys. */
const PYTHON_OBJECT = new Set(
  [
    'class',
    'dict',
    'doc',
    'init',
    'new',
    'repr',
    'str',
    'eq',
    'ne',
    'lt',
    'le',
    'gt',
    'ge',
    'hash',
    'len',
    'iter',
  ]
    .concat(
      [
        'getitem',
        'setitem',
        'delitem',
        'contains',
        'getattribute',
        'setattr',
        'delattr',
        'dir',
        'format',
        'reduce',
      ],
      [
        'reduce_ex',
        'sizeof',
        'subclasshook',
        'init_subclass',
        'or',
        'ior',
        'ror',
        'reversed',
        'class_getitem',
        'getstate',
      ],
    )
    .map((name) => `__${name}__`),
)

/** An attribute of the Python type of a value; undefined where it has none of that name. */
export function attributeOf(value: Value, name: string): Value | undefined {
  if (value instanceof Range) return rangeAttribute(value, name)
  if (value instanceof Special) return value.attribute(name)
  const method = methodOf(value, name)
  if (method !== undefined) return new Callable(name, (args, keywords) => method([value, ...args], keywords))
  if (value instanceof Tuple) {
    const at = value.names.indexOf(name)
    return at < 0 ? undefined : value.items[at]
  }
  return numberAttribute(value, name)
}

function methodOf(value: Value, name: string): Native | undefined {
  if (isStr(value)) return stringMethods.get(name)
  if (value instanceof Dict) return dictMethods.get(name)
  if (value instanceof List || value instanceof Tuple) {
    return name === 'copy' && value instanceof Tuple ? undefined : sequenceMethods.get(name)
  }
  return undefined
}

function rangeAttribute(value: Range, name: string): Value | undefined {
  if (name === 'start') return value.start
  if (name === 'stop') return value.stop
  if (name === 'step') return value.step
  const method = name === 'copy' ? undefined : sequenceMethods.get(name)
  return method && new Callable(name, (args, keywords) => method([value, ...args], keywords))
}

function numberAttribute(value: Value, name: string): Value | undefined {
  const number = numeric(value)
  if (number === null) return undefined
  if (name === 'real') return typeof value === 'boolean' ? Number(value) : value
  if (name === 'imag') return number.float ? float(0) : 0
  if (name === 'numerator' && !number.float) return typeof value === 'boolean' ? Number(value) : value
  if (name === 'denominator' && !number.float) return 1
  if (name === 'is_integer' && value instanceof Num && value.float) {
    return new Callable(name, () => Number.isInteger(Number(value.value)))
  }
  if (name === 'bit_length' && !number.float) {
    return new Callable(name, () => {
      const magnitude = BigInt(number.value) < 0n ? -BigInt(number.value) : BigInt(number.value)
      return magnitude === 0n ? 0 : magnitude.toString(2).length
    })
  }
  return undefined
}
