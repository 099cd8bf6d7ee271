/** GPT-2's table of the characters that stand for the 256 bytes in byte-level vocabularies. */
const LETTERS = Uint16Array.from(
  (() => {
    let next = 256
    const printable = (byte: number) =>
      (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
    return Array.from({ length: 256 }, (_, byte) => (printable(byte) ? byte : next++))
  })(),
)

/** Text whose bytes are their own letters, but for a space before it. */
const PLAIN = /^ ?[!-~]*$/
const SPACE = String.fromCharCode(LETTERS[32]!)
/** Letters of one call, which takes them as arguments. */
const BLOCK = 8_192

/** Spells the UTF-8 bytes of a text, a letter for each byte. */
export function byteLetters(text: string): string {
  if (PLAIN.test(text)) return text.startsWith(' ') ? SPACE + text.slice(1) : text
  const bytes = Buffer.from(text)
  let letters = ''
  for (let at = 0; at < bytes.length; at += BLOCK) {
    const block = Uint16Array.from(bytes.subarray(at, at + BLOCK), (byte) => LETTERS[byte]!)
    letters += String.fromCharCode(...block)
  }
  return letters
}

const BYTE_OF_LETTER = new Map(Array.from(LETTERS, (letter, byte) => [String.fromCharCode(letter), byte]))

/** Byte that a character stands for. */
export function byteOf(letter: string): number | undefined {
  return BYTE_OF_LETTER.get(letter)
}
