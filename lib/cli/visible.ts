/**
 * Characters that act on a terminal instead of standing in it: control characters, marks that turn the direction of
 * writing, and halves of surrogate pairs.
 */
const ACTS = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]|\p{Cs}/gu

const ESCAPES: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\x1b': '\\e' }

const escapeOf = (character: string) => {
  const code = character.charCodeAt(0)
  return ESCAPES[character] ?? (code < 256 ? `\\x${hex(code, 2)}` : `\\u${hex(code, 4)}`)
}

const hex = (code: number, digits: number) => code.toString(16).padStart(digits, '0')

/** A text of data for a terminal: characters that would act on it are written as escapes, except those in `kept`. */
export function visible(text: string, kept = ''): string {
  return text.replace(ACTS, (character) => (kept.includes(character) ? character : escapeOf(character)))
}

/** A text of data in one line of at most `length` characters; of a longer one both ends are kept. */
export function visibleLine(text: string, length = 200): string {
  const characters = [...visible(text)]
  if (characters.length <= length) return characters.join('')
  const half = Math.floor((length - 3) / 2)
  return `${characters.slice(0, half).join('')} … ${characters.slice(-half).join('')}`
}
