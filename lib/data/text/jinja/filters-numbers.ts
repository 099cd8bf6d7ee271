import { parseFloating, parseInteger } from './digits.js'
import { Failure, typeError, valueError } from './failure.js'
import { floatDigits } from './format-spec.js'
import { isTrue, rawOf, typeName } from './kinds.js'
import { type Natives, natives } from './native.js'
import { arithmetic, indexOf, type Numeric, numeric, roundFloat, roundInt, toFloat } from './numbers.js'
import type { Mark } from './origin.js'
import { isStr, markAt, raw, type Str } from './text.js'
import { float, Num, small, Undefined, type Value } from './values.js'

function numberArgument(value: Value): Numeric {
  const number = numeric(value)
  if (number !== null) return number
  if (value instanceof Undefined) value.fail()
  throw typeError(`must be real number, not ${typeName(value)}`)
}

/** A number made of a value keeps its origin. */
function withMark(value: number | bigint, isFloat: boolean, mark: Mark): Value {
  return isFloat || mark !== null ? new Num(value, isFloat, mark) : value
}

function markOf(value: Value): Mark {
  if (value instanceof Num) return value.mark
  return isStr(value) && raw(value) !== '' ? markAt(value, 0) : null
}

/** Python's int(float); null where it has none. */
function truncated(value: number): number | bigint | null {
  return Number.isFinite(value) ? small(BigInt(Math.trunc(value))) : null
}

function toInt(value: Value, otherwise: Value = 0, base: Value = 10): Value {
  if (value instanceof Undefined) value.fail()
  const number = numeric(value)
  if (number !== null) {
    if (!number.float) return typeof value === 'boolean' ? Number(value) : value
    const whole = truncated(Number(number.value))
    if (whole === null && !Number.isNaN(number.value as number)) {
      throw new Failure('OverflowError', 'cannot convert float infinity to integer')
    }
    return whole === null ? otherwise : withMark(whole, false, markOf(value))
  }
  if (!isStr(value)) return otherwise
  const radix = indexOf(base)
  const whole = radix === 0 || (radix >= 2 && radix <= 36) ? parseInteger(raw(value), radix) : null
  if (whole !== null) return withMark(whole, false, markOf(value))
  const parsed = parseFloating(raw(value))
  const floored = parsed === null ? null : truncated(parsed)
  return floored === null ? otherwise : withMark(floored, false, markOf(value))
}

function toFloating(value: Value, otherwise: Value = float(0)): Value {
  if (value instanceof Undefined) value.fail()
  const number = numeric(value)
  if (number !== null) return new Num(toFloat(number), true, markOf(value))
  const parsed = isStr(value) ? parseFloating(raw(value)) : null
  return parsed === null ? otherwise : new Num(parsed, true, markOf(value))
}

function round(value: Value, precision: Value = 0, method: Value = 'common'): Value {
  const how = rawOf(method, 'method')
  if (how !== 'common' && how !== 'ceil' && how !== 'floor') {
    throw new Failure('TemplateError', 'method must be common, ceil or floor')
  }
  const number = numberArgument(value)
  const digits = indexOf(precision)
  if (how === 'common') {
    if (number.float) return new Num(roundFloat(Number(number.value), digits), true, markOf(value))
    return withMark(roundInt(number.value, digits), false, markOf(value))
  }
  const ten: Numeric = { value: 10, float: false }
  const scale = numeric(arithmetic('**', ten, { value: digits, float: false }))!
  const scaledValue = numeric(arithmetic('*', number, scale))!
  let whole = scaledValue.value
  if (scaledValue.float) {
    const stepped = how === 'ceil' ? Math.ceil(Number(whole)) : Math.floor(Number(whole))
    if (!Number.isFinite(stepped)) throw valueError('cannot convert float to integer')
    whole = small(BigInt(stepped))
  }
  const divided = numeric(arithmetic('/', { value: whole, float: false }, scale))!
  return new Num(divided.value, true, markOf(value))
}

function absolute(value: Value): Value {
  const number = numeric(value)
  if (number === null) {
    if (value instanceof Undefined) value.fail()
    throw typeError(`bad operand type for abs(): '${typeName(value)}'`)
  }
  if (number.float) return new Num(Math.abs(Number(number.value)), true, markOf(value))
  const whole = number.value
  return withMark(whole < 0 ? small(-BigInt(whole)) : whole, false, markOf(value))
}

const UNITS = ['k', 'M', 'G', 'T', 'P', 'E', 'Z', 'Y']

function fileSize(value: Value, binary: Value = false): Str {
  const of = isStr(value) ? parseFloating(raw(value)) : toFloat(numberArgument(value))
  if (of === null) throw valueError('could not convert string to float')
  const base = isTrue(binary) ? 1024 : 1000
  if (of === 1) return '1 Byte'
  if (of === Number.NEGATIVE_INFINITY)
    throw new Failure('OverflowError', 'cannot convert float infinity to integer')
  if (of < base) return `${BigInt(Math.trunc(of))} Bytes`
  let i = 0
  while (i < UNITS.length - 1 && !(of < base ** (i + 2))) i++
  const unit = isTrue(binary) ? `${UNITS[i]!.toUpperCase()}iB` : `${UNITS[i]}B`
  const amount = (base * of) / base ** (i + 2)
  return `${floatDigits(amount, { type: 'f', precision: 1, alternate: false })} ${unit}`
}

export const numberFilters: Natives = natives({
  abs: ['value', absolute],
  int: ['value default? base?', toInt],
  float: ['value default?', toFloating],
  round: ['value precision? method?', round],
  filesizeformat: ['value binary?', fileSize],
})
