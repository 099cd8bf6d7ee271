import { typeError } from './failure.js'
import { isStr, raw, type Str, Text } from './text.js'
import { Dict, List, Num, Tuple, Undefined, type Value } from './values.js'

/** The Python type's name. */
export function typeName(value: Value): string {
  if (value === null) return 'NoneType'
  if (typeof value === 'boolean') return 'bool'
  if (typeof value === 'number' || typeof value === 'bigint') return 'int'
  if (isStr(value)) return 'str'
  if (value instanceof Num) return value.float ? 'float' : 'int'
  if (value instanceof List) return 'list'
  if (value instanceof Tuple) return 'tuple'
  if (value instanceof Dict) return 'dict'
  if (value instanceof Undefined) return 'Undefined'
  return value.typeName
}

export function isTrue(value: Value): boolean {
  switch (typeof value) {
    case 'boolean':
      return value
    case 'number':
      return value !== 0
    case 'bigint':
      return value !== 0n
    case 'string':
      return value !== ''
  }
  if (value === null || value instanceof Undefined) return false
  if (value instanceof Text) return value.text !== ''
  if (value instanceof Num) return Number(value.value) !== 0
  if (value instanceof List || value instanceof Tuple) return value.items.length > 0
  if (value instanceof Dict) return value.size > 0
  return !value.isFalse
}

/** The characters of a string argument. */
export function stringOf(value: Value, what: string): Str {
  if (isStr(value)) return value
  if (value instanceof Undefined) value.fail()
  throw typeError(`${what} must be str, not ${typeName(value)}`)
}

export function rawOf(value: Value, what: string): string {
  return raw(stringOf(value, what))
}
