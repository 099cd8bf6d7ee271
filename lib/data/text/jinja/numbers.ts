import { Failure, typeError, valueError } from './failure.js'
import { typeName } from './kinds.js'
import { charge, LimitError } from './limits.js'
import { float, Num, small, Undefined, type Value } from './values.js'

/** Digits of the longest int: as Python's own limit on printing. */
export const MAX_DIGITS = 4300
const MAX_BITS = 14_300

export interface Numeric {
  readonly value: number | bigint
  readonly float: boolean
}

/** A number, also of a boolean; null for other types. */
export function numeric(value: Value): Numeric | null {
  if (typeof value === 'number' || typeof value === 'bigint') return { value, float: false }
  if (value instanceof Num) return value
  if (typeof value === 'boolean') return { value: value ? 1 : 0, float: false }
  return null
}

/** An int, also of a boolean; null for other types. */
export function intOf(value: Value): number | bigint | null {
  if (typeof value === 'number' || typeof value === 'bigint') return value
  const number = numeric(value)
  return number === null || number.float ? null : number.value
}

/** An int argument, within the range of exact numbers. */
export function indexOf(value: Value): number {
  const int = intOf(value)
  if (int === null) {
    if (value instanceof Undefined) value.fail()
    throw typeError(`'${typeName(value)}' object cannot be interpreted as an integer`)
  }
  if (typeof int === 'number') return int
  return int < 0n ? Number.MIN_SAFE_INTEGER : Number.MAX_SAFE_INTEGER
}

export function toFloat({ value }: Numeric): number {
  const number = Number(value)
  if (typeof value === 'bigint' && !Number.isFinite(number)) {
    throw new Failure('OverflowError', 'int too large to convert to float')
  }
  return number
}

/** About the logarithm of a large int; 0 for small ones. */
function magnitude(value: bigint): number {
  return value < 1n << 64n && value > -(1n << 64n) ? 0 : value.toString(16).length / 2
}

/** Charges for writing an int in decimal digits. */
export function chargeDigits(value: number | bigint): void {
  charge(4 + (typeof value === 'bigint' ? magnitude(value) ** 2 / 512 : 0))
}

function checked(value: bigint): number | bigint {
  if (value > 1n << BigInt(MAX_BITS) || value < -(1n << BigInt(MAX_BITS))) {
    throw new LimitError(`a number has more than ${MAX_DIGITS} digits`)
  }
  return small(value)
}

/** An arithmetic operation of two numbers. */
export function arithmetic(operator: string, a: Numeric, b: Numeric): Value {
  if (operator === '/') return divide(a, b)
  if (operator === '**') return power(a, b)
  if (a.float || b.float) return float(floatOperation(operator, toFloat(a), toFloat(b)))
  if (typeof a.value === 'number' && typeof b.value === 'number') {
    const fast = smallOperation(operator, a.value, b.value)
    if (Number.isSafeInteger(fast)) return fast === 0 ? 0 : fast
  }
  charge(16)
  const x = BigInt(a.value)
  const y = BigInt(b.value)
  if (operator !== '+' && operator !== '-') charge(magnitude(x) + magnitude(y))
  if (operator === '+') return checked(x + y)
  if (operator === '-') return checked(x - y)
  if (operator === '*') return checked(x * y)
  if (y === 0n) throw new Failure('ZeroDivisionError', 'integer division or modulo by zero')
  const rest = x % y
  const wrapped = rest !== 0n && rest < 0n !== y < 0n
  if (operator === '//') return checked(x / y - (wrapped ? 1n : 0n))
  return checked(wrapped ? rest + y : rest)
}

/** May be inexact beyond 2^53. */
function smallOperation(operator: string, a: number, b: number): number {
  switch (operator) {
    case '+':
      return a + b
    case '-':
      return a - b
    case '*':
      return a * b
  }
  if (b === 0) throw new Failure('ZeroDivisionError', 'integer division or modulo by zero')
  if (operator === '//') return Math.abs(a) < 2 ** 52 ? Math.floor(a / b) : Number.NaN
  const rest = a % b
  return rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest
}

function floatOperation(operator: string, a: number, b: number): number {
  switch (operator) {
    case '+':
      return a + b
    case '-':
      return a - b
    case '*':
      return a * b
  }
  if (b === 0) throw new Failure('ZeroDivisionError', 'float modulo by zero')
  const rest = a % b
  const wraps = rest !== 0 && rest < 0 !== b < 0
  if (operator === '%') return rest === 0 ? (b < 0 ? -0 : 0) : wraps ? rest + b : rest
  // In Python's order, for the last bit.
  const quotient = (a - rest) / b - (wraps ? 1 : 0)
  if (quotient === 0) return a / b < 0 || Object.is(a / b, -0) ? -0 : 0
  const floor = Math.floor(quotient)
  return quotient - floor > 0.5 ? floor + 1 : floor
}

function divide(a: Numeric, b: Numeric): Value {
  if (Number(b.value) === 0) {
    throw new Failure('ZeroDivisionError', a.float || b.float ? 'float division by zero' : 'division by zero')
  }
  if (a.float || b.float) return float(toFloat(a) / toFloat(b))
  return float(quotient(a.value, b.value))
}

/** The float nearest to a quotient of ints. */
function quotient(a: number | bigint, b: number | bigint): number {
  if (typeof a === 'number' && typeof b === 'number') return a / b
  const [x, y] = [BigInt(a), BigInt(b)]
  charge(16 + (magnitude(x) + magnitude(y)) / 2)
  const bits = (value: bigint) => (value < 0n ? -value : value).toString(2).length
  const shift = BigInt(Math.max(0, 66 - bits(x) + bits(y)))
  const scaledUp = x << shift
  // The last bit stands for all that follow.
  const whole = scaledUp / y
  const rounded = Number(
    scaledUp % y === 0n ? whole : whole % 2n === 0n ? whole + (whole < 0n ? -1n : 1n) : whole,
  )
  const result = rounded / 2 ** Number(shift)
  if (!Number.isFinite(result))
    throw new Failure('OverflowError', 'integer division result too large for a float')
  return result
}

function power(a: Numeric, b: Numeric): Value {
  const negative = Number(b.value) < 0
  if (a.float || b.float || negative) {
    const x = toFloat(a)
    const y = toFloat(b)
    if (x === 0 && y < 0) throw new Failure('ZeroDivisionError', '0.0 cannot be raised to a negative power')
    if (x < 0 && !Number.isInteger(y)) throw valueError('a negative number has no real root')
    // Unlike IEEE's pow, JavaScript's gives NaN for 1 ** NaN.
    const result = x === 1 ? 1 : realPower(x, y)
    if (!Number.isFinite(result) && Number.isFinite(x) && Number.isFinite(y)) {
      throw new Failure('OverflowError', 'Numerical result out of range')
    }
    return float(result)
  }
  const base = BigInt(a.value)
  const bits = base.toString(2).length
  if (bits > 1 && base !== -1n && bits * Number(b.value) > 2 * MAX_BITS) {
    throw new LimitError(`a number has more than ${MAX_DIGITS} digits`)
  }
  charge(64 + (bits > 1 ? (bits * Number(b.value)) / 16 : 0))
  // 0, 1 and -1 to a large power.
  const exponent =
    bits > 1 && base !== -1n
      ? BigInt(b.value)
      : BigInt(Number(b.value) === 0 ? 0 : 2 - Number(BigInt(b.value) % 2n))
  return checked(base ** exponent)
}

/** Exponents up to which powers are rounded once, as by C; JavaScript's may differ in the last bit. */
const EXACT_EXPONENT = 64

function realPower(x: number, y: number): number {
  const near = x ** y
  if (y === 0.5 && x > 0) return Math.sqrt(x)
  const exact = Number.isInteger(y) && Math.abs(y) <= EXACT_EXPONENT && x !== 0
  if (!exact || !(Math.abs(near) > 1e-290 && Math.abs(near) < 1e290)) return near
  const count = BigInt(Math.abs(y))
  charge(32 + Number(count) * 4)
  const [over, under] = fraction(x)
  const [top, bottom] = [over ** count, under ** count]
  return y > 0 ? quotient(top, bottom) : quotient(bottom, top)
}

/** The ints whose quotient a float is. */
function fraction(x: number): [bigint, bigint] {
  let [whole, halvings] = [x, 0n]
  while (!Number.isInteger(whole)) {
    whole *= 2
    halvings++
  }
  return [BigInt(whole), 1n << halvings]
}

/** Python's spelling of a float. */
export function floatText(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'nan' : value < 0 ? '-inf' : 'inf'
  if (Object.is(value, -0)) return '-0.0'
  const [digits, exponent] = value.toExponential().split('e') as [string, string]
  const power = Number(exponent)
  if (power < -4 || power >= 16) {
    return `${digits}e${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`
  }
  if (power >= 0) {
    const plain = BigInt(Math.trunc(value)).toString()
    return Number.isInteger(value) ? `${plain}.0` : String(value)
  }
  const sign = value < 0 ? '-' : ''
  return `${sign}0.${'0'.repeat(-power - 1)}${digits.replace('-', '').replace('.', '')}`
}

export function numberText({ value, float }: Numeric): string {
  if (float) {
    charge(16)
    return floatText(Number(value))
  }
  chargeDigits(value)
  const text = value.toString()
  if (text.length > MAX_DIGITS) throw valueError(`an int has more than ${MAX_DIGITS} digits`)
  return text
}

/** Orders two numbers exactly; NaN where one is NaN. */
export function compareNumbers(a: Numeric, b: Numeric): number {
  const { value: x } = a
  const { value: y } = b
  if (Number.isNaN(x as number) || Number.isNaN(y as number)) return Number.NaN
  // JavaScript compares numbers and bigints by their exact values.
  return x < y ? -1 : x > y ? 1 : 0
}

/** A float times 10^digits, rounded half to even, as an int: exact, from the binary value. */
export function scaled(value: number, digits: number): bigint {
  if (digits > 1100) throw valueError('precision too large')
  const [mantissa, exponent] = parts(value)
  charge(64 + Math.abs(exponent) / 4 + Math.abs(digits) / 2)
  let numerator = mantissa
  let denominator = 1n
  if (exponent > 0) numerator <<= BigInt(exponent)
  else denominator <<= BigInt(-exponent)
  if (digits > 0) numerator *= 10n ** BigInt(digits)
  else denominator *= 10n ** BigInt(-digits)
  const negative = numerator < 0n
  if (negative) numerator = -numerator
  let quotient = numerator / denominator
  const twice = (numerator % denominator) * 2n
  if (twice > denominator || (twice === denominator && quotient % 2n === 1n)) quotient++
  return negative ? -quotient : quotient
}

/** The value as mantissa * 2^exponent. */
function parts(value: number): [bigint, number] {
  const bits = new DataView(new ArrayBuffer(8))
  bits.setFloat64(0, value)
  const whole = bits.getBigUint64(0)
  const exponent = Number((whole >> 52n) & 0x7ffn)
  const fraction = whole & ((1n << 52n) - 1n)
  const mantissa = exponent === 0 ? fraction : fraction | (1n << 52n)
  return [whole >> 63n ? -mantissa : mantissa, Math.max(exponent, 1) - 1075]
}

/** Python's round() of a float to a number of decimals. */
export function roundFloat(value: number, digits: number): number {
  if (!Number.isFinite(value) || digits > 323) return value
  if (digits < -309) return 0 * value
  const rounded = Number(`${scaled(value, digits)}e${-digits}`)
  return rounded === 0 && (value < 0 || Object.is(value, -0)) ? -0 : rounded
}

/** Python's round() of an int to a multiple of 10^-digits. */
export function roundInt(value: number | bigint, digits: number): number | bigint {
  if (digits >= 0) return value
  if (digits < -MAX_DIGITS) return 0
  const unit = 10n ** BigInt(-digits)
  const whole = BigInt(value)
  let rest = whole % unit
  if (rest < 0n) rest += unit
  const down = whole - rest
  const up = rest * 2n > unit || (rest * 2n === unit && (down / unit) % 2n !== 0n)
  return checked(up ? down + unit : down)
}
