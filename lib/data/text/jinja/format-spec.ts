import { Failure, typeError, valueError } from './failure.js'
import { typeName } from './kinds.js'
import { charge, checkLength } from './limits.js'
import { chargeDigits, floatText, type Numeric, numberText, numeric, scaled } from './numbers.js'
import { codePoints, pointsOf } from './points.js'
import { str } from './spelling.js'
import { pad } from './strings.js'
import { isStr, marked, raw, type Str, slice } from './text.js'
import { Num, type Value } from './values.js'

/** How a number is written: the parts that `%` and `format` have in common. */
export interface NumberStyle {
  readonly type: string
  readonly precision: number | null
  readonly alternate: boolean
}

/** Digits of a float's absolute value in the styles e, f, g and %. */
export function floatDigits(value: number, { type, precision, alternate }: NumberStyle): string {
  if (!Number.isFinite(value)) {
    const word = Number.isNaN(value) ? 'nan' : 'inf'
    return (
      (type === 'F' || type === 'E' || type === 'G' ? word.toUpperCase() : word) + (type === '%' ? '%' : '')
    )
  }
  const digits = precision ?? 6
  if (digits > 1000) throw valueError('precision too big')
  let text: string
  switch (type.toLowerCase()) {
    case 'f':
      text = fixed(value, digits)
      break
    case 'e':
      text = exponential(value, digits)
      break
    case '%':
      return `${fixed(value * 100, digits)}%`
    default:
      text = general(value, digits === 0 ? 1 : digits, alternate)
  }
  if (alternate && !text.includes('.')) text = text.replace(/^\d+/, '$&.')
  return type >= 'A' && type <= 'Z' ? text.toUpperCase() : text
}

function fixed(value: number, digits: number): string {
  const whole = scaled(value, digits)
    .toString()
    .padStart(digits + 1, '0')
  return digits === 0 ? whole : `${whole.slice(0, -digits)}.${whole.slice(-digits)}`
}

function exponential(value: number, digits: number): string {
  if (value === 0) return `${digits === 0 ? '0' : `0.${'0'.repeat(digits)}`}e+00`
  let exponent = Number(value.toExponential().split('e')[1])
  let whole = scaled(value, digits - exponent).toString()
  if (whole.length > digits + 1) {
    exponent++
    whole = scaled(value, digits - exponent).toString()
  }
  const power = `e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`
  return `${whole[0]}${digits === 0 ? '' : `.${whole.slice(1)}`}${power}`
}

function general(value: number, digits: number, alternate: boolean): string {
  const written = exponential(value, digits - 1)
  const exponent = Number(written.split('e')[1])
  if (exponent < -4 || exponent >= digits) {
    const [mantissa, power] = written.split('e') as [string, string]
    return `${alternate ? mantissa : trimmed(mantissa)}e${power}`
  }
  const plain = fixed(value, Math.max(0, digits - 1 - exponent))
  return alternate ? plain : trimmed(plain)
}

function trimmed(digits: string): string {
  return digits.includes('.') ? digits.replace(/\.?0+$/, '') : digits
}

/** Digits of an int's absolute value in a base, with its prefix. */
export function intDigits(value: bigint, type: string, alternate: boolean): [prefix: string, digits: string] {
  const radix = { b: 2, o: 8, x: 16, X: 16 }[type] ?? 10
  chargeDigits(value)
  const digits = value.toString(radix)
  const prefix = alternate && radix !== 10 ? `0${type}` : ''
  return [prefix, type === 'X' ? digits.toUpperCase() : digits]
}

interface Spec extends NumberStyle {
  readonly fill: string
  readonly align: string
  readonly sign: string
  readonly zero: boolean
  /** Writes a negative zero, also one that rounding makes, without its sign. */
  readonly unsigned: boolean
  readonly width: number
  readonly group: string
}

const SPEC = /^(?:(.)?([<>=^]))?([-+ ])?(z)?(#)?(0)?(\d+)?([,_])?(?:\.(\d+))?([a-zA-Z%])?$/su

function parseSpec(text: string): Spec {
  const match = SPEC.exec(text)
  if (match === null) throw valueError(`Invalid format specifier '${text}'`)
  const [, fill, align, sign, unsigned, alternate, zero, width, group, precision, type] = match
  const wanted = Number(width ?? 0)
  checkLength(wanted)
  return {
    fill:
      fill ??
      (zero !== undefined && align === undefined
        ? '0'
        : zero !== undefined && fill === undefined
          ? '0'
          : ' '),
    align: align ?? '',
    sign: sign ?? '',
    zero: zero !== undefined,
    unsigned: unsigned !== undefined,
    width: wanted,
    group: group ?? '',
    precision: precision === undefined ? null : Number(precision),
    alternate: alternate !== undefined,
    type: type ?? '',
  }
}

/** Python's format(value, spec). */
export function formatValue(value: Value, spec: string): Str {
  if (spec === '') return str(value)
  const parsed = parseSpec(spec)
  if (isStr(value)) return formatString(value, parsed)
  const number = numeric(value)
  if (number === null) throw typeError(`unsupported format string passed to ${typeName(value)}.__format__`)
  return formatNumber(number, parsed, value)
}

function formatString(text: Str, spec: Spec): Str {
  if (spec.type !== '' && spec.type !== 's') {
    throw valueError(`Unknown format code '${spec.type}' for object of type 'str'`)
  }
  if (spec.sign !== '' || spec.unsigned || spec.alternate || spec.group !== '' || spec.align === '=') {
    throw valueError('a string has no sign, base or groups in its format')
  }
  let shown = text
  if (spec.precision !== null && codePoints(raw(text)) > spec.precision) {
    shown = slice(text, 0, pointsOf(raw(text)).at(spec.precision))
  }
  return aligned(shown, spec, spec.align || '<')
}

function aligned(text: Str, spec: Spec, align: string): Str {
  const missing = spec.width - codePoints(raw(text))
  if (missing <= 0) return text
  if (align === '<') return pad(text, 0, missing, spec.fill)
  if (align === '>') return pad(text, missing, 0, spec.fill)
  return pad(text, Math.floor(missing / 2), Math.ceil(missing / 2), spec.fill)
}

function formatNumber(number: Numeric, spec: Spec, value: Value): Str {
  const mark = value instanceof Num ? value.mark : null
  const { type } = spec
  if (type === 'c' && !number.float) return aligned(character(number.value, spec), spec, spec.align || '<')
  const negative = Number(number.value) < 0 || Object.is(number.value, -0)
  const [prefix, digits] = magnitude(number, spec)
  if (spec.unsigned && !number.float && (type === '' || 'bdoxXn'.includes(type)))
    throw valueError('Negative zero coercion (z) not allowed in format specifier with integer')
  const zero = spec.unsigned && !/[1-9a-z]/i.test(digits.replace(/e.*/i, ''))
  const sign = negative && !zero ? '-' : spec.sign === '-' ? '' : spec.sign
  const grouped = spec.group === '' ? digits : group(digits, spec, sign.length + prefix.length)
  const align = spec.align || (spec.zero ? '=' : '>')
  if (align !== '=') return aligned(marked(sign + prefix + grouped, mark), spec, align)
  const missing = Math.max(0, spec.width - sign.length - prefix.length - grouped.length)
  return marked(sign + prefix + spec.fill.repeat(missing) + grouped, mark)
}

function character(code: number | bigint, { sign, alternate, group, precision }: Spec): string {
  if (sign !== '' || alternate || group !== '' || precision !== null)
    throw valueError("a character ('c') has no sign, groups or precision in its format")
  if (code < 0 || code > 0x10ffff) throw new Failure('OverflowError', '%c arg not in range(0x110000)')
  return String.fromCodePoint(Number(code))
}

function magnitude(number: Numeric, spec: Spec): [string, string] {
  const { type } = spec
  const whole = number.float ? 0n : BigInt(number.value)
  if (!number.float && (type === '' || 'bdoxXn'.includes(type))) {
    if (spec.precision !== null) throw valueError('Precision not allowed in integer format specifier')
    return intDigits(whole < 0n ? -whole : whole, type, spec.alternate)
  }
  const float = Math.abs(Number(number.value))
  if (type === '' && spec.precision === null) return ['', numberText({ value: float, float: true })]
  if (type === '') {
    const written = floatDigits(float, { ...spec, type: 'g' })
    return ['', /^\d+$/.test(written) ? `${written}.0` : written]
  }
  if (!'eEfFgGn%'.includes(type)) {
    throw valueError(`Unknown format code '${type}' for object of type '${number.float ? 'float' : 'int'}'`)
  }
  return ['', floatDigits(float, { ...spec, type: type === 'n' ? 'g' : type })]
}

/** Puts separators between groups of digits, filling with zeros where they are asked for. */
function group(text: string, spec: Spec, before: number): string {
  if (spec.type === 'n' || (spec.group === ',' && 'boxX'.includes(spec.type || ' ')))
    throw valueError(`Cannot specify '${spec.group}' with '${spec.type}'.`)
  const size = spec.type !== '' && 'boxX'.includes(spec.type) ? 4 : 3
  const [whole, rest] = split(text)
  charge(spec.width / 2)
  let digits = whole
  const separated = (of: string) => {
    const first = of.length % size
    const groups = first === 0 ? [] : [of.slice(0, first)]
    for (let at = first; at < of.length; at += size) groups.push(of.slice(at, at + size))
    return groups.join(spec.group)
  }
  if (spec.zero && (spec.align === '' || spec.align === '=')) {
    // A separator does not come first.
    const room = spec.width - rest.length - before
    let count = Math.max(digits.length, Math.floor((room * size) / (size + 1)))
    while (count + Math.floor((count - 1) / size) < room) count++
    digits = digits.padStart(count, '0')
  }
  return separated(digits) + rest
}

function split(text: string): [string, string] {
  const at = text.search(/[^0-9a-fA-F]|e[+-]/)
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at)]
}

/** An int for %d and %x. */
export function integerOf(value: Value, type: string, exact: boolean): bigint {
  const number = numeric(value)
  if (number === null) throw typeError(`%${type} format: a real number is required, not ${typeName(value)}`)
  if (!number.float) return BigInt(number.value)
  if (exact) throw typeError(`%${type} format: an integer is required, not float`)
  const float = Number(number.value)
  if (!Number.isFinite(float))
    throw new Failure('OverflowError', `cannot convert float ${floatText(float)} to integer`)
  return BigInt(Math.trunc(float))
}
