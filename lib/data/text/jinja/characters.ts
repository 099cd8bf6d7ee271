/** White space as Python's str knows it: unlike JavaScript's with \x1c to \x1f and \x85, without \ufeff. */
export function isSpace(code: number): boolean {
  if (code < 128) return code === 32 || (code >= 9 && code <= 13) || (code >= 28 && code <= 31)
  return (
    code === 0x85 ||
    code === 0xa0 ||
    code === 0x1680 ||
    (code >= 0x2000 && code <= 0x200a) ||
    code === 0x2028 ||
    code === 0x2029 ||
    code === 0x202f ||
    code === 0x205f ||
    code === 0x3000
  )
}

/** Ends of lines of Python's `splitlines`, beside \r\n. */
export function isLineEnd(code: number): boolean {
  return (
    (code >= 10 && code <= 13) ||
    (code >= 28 && code <= 30) ||
    code === 0x85 ||
    code === 0x2028 ||
    code === 0x2029
  )
}

/** End of the white space from `at`. */
export function skipSpace(text: string, at: number): number {
  while (at < text.length && isSpace(text.charCodeAt(at))) at++
  return at
}

/** Start of the white space that ends at `end`, not before `from`. */
export function spaceBefore(text: string, end: number, from = 0): number {
  while (end > from && isSpace(text.charCodeAt(end - 1))) end--
  return end
}
