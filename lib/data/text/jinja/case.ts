import { charge } from './limits.js'

const CASED = /[\p{Cased}]/u
const LOWER = /\p{Lowercase}/u
const UPPER = /\p{Uppercase}/u
const TITLE = /\p{Lt}/u

/** Python's str.islower(). */
export function isLowerCase(text: string): boolean {
  charge(text.length)
  return LOWER.test(text) && !UPPER.test(text) && !TITLE.test(text)
}

/** Python's str.isupper(). */
export function isUpperCase(text: string): boolean {
  charge(text.length)
  return UPPER.test(text) && !LOWER.test(text) && !TITLE.test(text)
}

/** A character in title case: ǆ becomes ǅ, ß becomes Ss. */
function titleOf(character: string): string {
  const code = character.codePointAt(0)!
  // The digraphs of Latin, and Greek with iota below, have title cases of their own.
  if (code >= 0x1c4 && code <= 0x1cc) return String.fromCharCode(0x1c5 + 3 * Math.floor((code - 0x1c4) / 3))
  if (code >= 0x1f1 && code <= 0x1f3) return '\u01f2'
  if (code >= 0x10d0 && code <= 0x10ff) return character
  if (code >= 0x1f80 && code <= 0x1faf) return String.fromCharCode(code | 8)
  if (code === 0x1fb3 || code === 0x1fc3 || code === 0x1ff3) return String.fromCharCode(code + 9)
  const upper = character.toUpperCase()
  if (upper.length === character.length) return upper
  if (TITLE.test(character)) return character
  if (upper.endsWith('\u0399') && code >= 0x1f00) return `${upper.slice(0, -1)}\u0345`
  if (code === 0x149) return '\u02bcN'
  const [first, ...rest] = upper
  return first! + rest.join('').toLowerCase()
}

/** Python's str.capitalize(). */
export function capitalize(text: string): string {
  const [first] = text
  return first === undefined ? '' : titleOf(first) + text.slice(first.length).toLowerCase()
}

/** Python's str.title(). */
export function titleCase(text: string): string {
  charge(6 * text.length)
  let after = false
  return text.replace(/./gsu, (character) => {
    const changed = after ? character.toLowerCase() : titleOf(character)
    after = CASED.test(character)
    return changed
  })
}

/** Python's str.swapcase(). */
export function swapCase(text: string): string {
  charge(6 * text.length)
  return text.replace(/./gsu, (character) => {
    if (UPPER.test(character)) return character.toLowerCase()
    return LOWER.test(character) ? character.toUpperCase() : character
  })
}

/** Python's str.casefold(). */
export function casefold(text: string): string {
  charge(4 * text.length)
  return text.replace(/./gsu, (character) => {
    if (character === 'ı' || character === 'İ') return character.toLowerCase()
    return character.toUpperCase().toLowerCase()
  })
}
