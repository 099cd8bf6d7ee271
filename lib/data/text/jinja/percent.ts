import { typeError, valueError } from './failure.js'
import { floatDigits, intDigits, integerOf } from './format-spec.js'
import { typeName } from './kinds.js'
import { charge, checkLength } from './limits.js'
import { indexOf, numeric } from './numbers.js'
import { codePoints, pointsOf } from './points.js'
import { repr, str } from './spelling.js'
import { pad } from './strings.js'
import { concat, isStr, marked, raw, type Str, slice } from './text.js'
import { Dict, Num, Tuple, Undefined, type Value } from './values.js'

const SPEC = /%(?:\(((?:[^()]|\([^()]*\))*)\))?([-+ #0]*)(\*|\d+)?(?:\.(\*|\d*))?[hlL]?(.)?/gsu

interface Conversion {
  readonly flags: string
  readonly width: number
  readonly precision: number | null
  readonly type: string
}

/** Python's `text % values`. */
export function percent(format: Str, values: Value): Str {
  const source = raw(format)
  const parts: Str[] = []
  const args = new Arguments(values)
  let at = 0
  for (const match of source.matchAll(SPEC)) {
    parts.push(slice(format, at, match.index))
    at = match.index + match[0].length
    const [, key, flags, width, precision, type] = match
    if (type === undefined) throw valueError('incomplete format')
    if (match[0] === '%%') {
      parts.push('%')
      continue
    }
    charge(16)
    const named = key === undefined ? undefined : args.named(key)
    const conversion = {
      flags: flags!,
      width: number(width, args) ?? 0,
      precision: precision === undefined ? null : (number(precision || '0', args) ?? 0),
      type,
    }
    parts.push(converted(named === undefined ? args.next() : named, conversion))
  }
  parts.push(slice(format, at))
  args.end()
  return concat(parts)
}

function number(text: string | undefined, args: Arguments): number | null {
  if (text === undefined) return null
  const value = text === '*' ? indexOf(args.next()) : Number(text)
  checkLength(value)
  return value
}

class Arguments {
  readonly #of: Value
  readonly #items: readonly Value[]
  #at = 0
  #named = false

  constructor(of: Value) {
    this.#of = of
    this.#items = of instanceof Tuple ? of.items : [of]
  }

  named(key: string): Value {
    if (!(this.#of instanceof Dict)) throw typeError('format requires a mapping')
    this.#named = true
    const value = this.#of.get(key)
    if (value === undefined) throw typeError(`'${key}'`)
    return value
  }

  next(): Value {
    const value = this.#items[this.#at++]
    if (value === undefined) throw typeError('not enough arguments for format string')
    return value
  }

  end(): void {
    const spare = this.#at < this.#items.length
    const whole = !(this.#of instanceof Tuple)
    // A mapping, and what can be looked up like one, may stay unused.
    const mapping =
      whole && (this.#of instanceof Dict || typeName(this.#of) === 'list' || this.#of instanceof Undefined)
    if (spare && !this.#named && !mapping)
      throw typeError('not all arguments converted during string formatting')
  }
}

function converted(value: Value, { flags, width, precision, type }: Conversion): Str {
  const left = flags.includes('-')
  const placed = (text: Str) => {
    const missing = width - codePoints(raw(text))
    return left ? pad(text, 0, missing, ' ') : pad(text, missing, 0, ' ')
  }
  if (type === 's' || type === 'r' || type === 'a') {
    const text = type === 's' ? str(value) : repr(value)
    if (precision === null || codePoints(raw(text)) <= precision) return placed(text)
    return placed(slice(text, 0, pointsOf(raw(text)).at(precision)))
  }
  if (type === 'c') return placed(character(value))
  const [negative, prefix, digits] = numberParts(value, { flags, width, precision, type })
  const sign = negative ? '-' : flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : ''
  const zeros =
    flags.includes('0') && !left ? Math.max(0, width - sign.length - prefix.length - digits.length) : 0
  return placed(marked(sign + prefix + '0'.repeat(zeros) + digits, value instanceof Num ? value.mark : null))
}

function numberParts(value: Value, { flags, precision, type }: Conversion): [boolean, string, string] {
  const alternate = flags.includes('#')
  if ('diuoxX'.includes(type)) {
    const whole = integerOf(value, type, 'oxX'.includes(type))
    const [prefix, digits] = intDigits(whole < 0n ? -whole : whole, type, alternate)
    return [whole < 0n, prefix, digits.padStart(precision ?? 0, '0')]
  }
  if (!'eEfFgG'.includes(type)) throw valueError(`unsupported format character '${type}'`)
  const number = numeric(value)
  if (number === null) {
    if (value instanceof Undefined) value.fail()
    throw typeError(`must be real number, not ${typeName(value)}`)
  }
  const float = Number(number.value)
  const negative = float < 0 || Object.is(float, -0)
  return [negative, '', floatDigits(Math.abs(float), { type, precision, alternate })]
}

function character(value: Value): Str {
  if (isStr(value)) {
    if (codePoints(raw(value)) !== 1) throw typeError('%c requires int or char')
    return value
  }
  const code = indexOf(value)
  if (code < 0 || code > 0x10ffff) throw valueError('%c arg not in range(0x110000)')
  return String.fromCodePoint(code)
}
