import { skipSpace, spaceBefore } from './characters.js'
import { valueError } from './failure.js'
import { charge } from './limits.js'
import { MAX_DIGITS } from './numbers.js'
import { small } from './values.js'

/** Python's int() of a string; null where it is none. */
export function parseInteger(text: string, base = 10): number | bigint | null {
  if (base !== 0 && (base < 2 || base > 36)) throw valueError('int() base must be >= 2 and <= 36, or 0')
  const match = /^([+-]?)(0[xX]|0[oO]|0[bB])?_?([0-9a-zA-Z]+(?:_[0-9a-zA-Z]+)*)$/.exec(ascii(text))
  if (match === null) return null
  const [, sign, prefix, written] = match as unknown as [string, string, string | undefined, string]
  let digits = written.replaceAll('_', '').toLowerCase()
  const prefixBase =
    prefix === undefined ? 0 : { x: 16, o: 8, b: 2 }[prefix[1]!.toLowerCase() as 'x' | 'o' | 'b']
  let radix = base
  if (prefix !== undefined && (base === 0 || base === prefixBase)) radix = prefixBase
  else if (prefix !== undefined) digits = `${prefix}${digits}`.toLowerCase()
  else if (base === 0) {
    radix = 10
    if (digits.startsWith('0') && /[1-9]/.test(digits)) return null
  }
  if (digits.length > MAX_DIGITS) throw valueError(`an int has more than ${MAX_DIGITS} digits`)
  charge(16 + digits.length / 4)
  if (radix === 10 && /^\d+$/.test(digits)) return small(BigInt(`${sign === '-' ? '-' : ''}${digits}`))
  charge(digits.length ** 2 / 256)
  let value = 0n
  for (const character of digits) {
    const digit = Number.parseInt(character, 36)
    if (Number.isNaN(digit) || digit >= radix) return null
    value = value * BigInt(radix) + BigInt(digit)
  }
  return small(sign === '-' ? -value : value)
}

/** Python's float() of a string; null where it is none. */
export function parseFloating(text: string): number | null {
  const match =
    /^([+-]?)(?:(inf(?:inity)?)|(nan)|((?:\d+(?:_\d+)*)?(?:\.(?:\d+(?:_\d+)*)?)?(?:e[+-]?\d+(?:_\d+)*)?))$/i.exec(
      ascii(text),
    )
  if (match === null) return null
  const sign = match[1] === '-' ? -1 : 1
  if (match[2] !== undefined) return sign * Number.POSITIVE_INFINITY
  if (match[3] !== undefined) return Number.NaN
  const digits = match[4]!.replaceAll('_', '')
  return /^\.?\d/.test(digits) ? sign * Number(digits) : null
}

/** Trimmed, with decimal digits of other scripts as ASCII. */
function ascii(text: string): string {
  charge(text.length / 4)
  const from = skipSpace(text, 0)
  return text.slice(from, spaceBefore(text, text.length, from)).replace(/\P{ASCII}/gu, (character) => {
    charge(1)
    if (!/\p{Nd}/u.test(character)) return character
    // Decimal digits lie in groups of ten from 0 on.
    let zero = character.codePointAt(0)!
    while (/\p{Nd}/u.test(String.fromCodePoint(zero - 1)) && character.codePointAt(0)! - zero < 9) zero--
    return String(character.codePointAt(0)! - zero)
  })
}
