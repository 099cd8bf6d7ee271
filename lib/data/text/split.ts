/** What a pre-tokenizer does with the matches of its pattern; the names in tokenizer.json. */
export const SPLIT_BEHAVIORS = [
  'isolated',
  'removed',
  'contiguous',
  'mergedwithprevious',
  'mergedwithnext',
] as const

type Piece = { text: string; match: boolean }

/** All of a text in order: what the pattern matches, and what lies between. */
function piecesOf(text: string, pattern: RegExp, invert: boolean): Piece[] {
  const pieces: Piece[] = []
  let from = 0
  const add = (to: number, match: boolean) => {
    if (to > from) pieces.push({ text: text.slice(from, to), match: match !== invert })
    from = to
  }
  for (const { 0: found, index } of text.matchAll(pattern)) {
    add(index, false)
    add(index + found.length, true)
  }
  add(text.length, false)
  return pieces
}

/** Splits a text at the matches of a pattern, as the pre-tokenizers Split and Punctuation of tokenizers (Rust) do. */
export function splitText(text: string, pattern: RegExp, behavior: string, invert: boolean): string[] {
  const pieces = piecesOf(text, pattern, invert)
  if (behavior === 'isolated') return pieces.map((piece) => piece.text)
  if (behavior === 'removed') return pieces.filter(({ match }) => !match).map((piece) => piece.text)
  const backwards = behavior === 'mergedwithnext'
  if (backwards) pieces.reverse()
  const joined: string[] = []
  let before: boolean | undefined
  for (const { text: piece, match } of pieces) {
    const joins = behavior === 'contiguous' ? match === before : match && before === false
    const last = joined.length - 1
    if (joins) joined[last] = backwards ? piece + joined[last] : joined[last] + piece
    else joined.push(piece)
    before = match
  }
  return backwards ? joined.reverse() : joined
}
