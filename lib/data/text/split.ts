import { PosttrainError } from '../../errors.js'

/** What a pre-tokenizer does with the matches of its pattern; the names in tokenizer.json. */
export const SPLIT_BEHAVIORS = [
  'isolated',
  'removed',
  'contiguous',
  'mergedwithprevious',
  'mergedwithnext',
] as const

type Piece = { text: string; match: boolean }

/** The matches of a pattern. V8 remembers every character of a match for its search, and fails at some millions. */
function* found(text: string, pattern: RegExp): Generator<RegExpExecArray> {
  const matches = text.matchAll(pattern)
  for (;;) {
    let next: IteratorResult<RegExpExecArray>
    try {
      next = matches.next()
    } catch (cause) {
      if (!(cause instanceof RangeError)) throw cause
      throw new PosttrainError(
        'ERR_DATA',
        `the tokenizer finds no end of a word in a text of ${text.length} characters: break the text up`,
        { cause },
      )
    }
    if (next.done === true) return
    yield next.value
  }
}

/** All of a text in order: what the pattern matches, and what lies between. */
function* piecesOf(text: string, pattern: RegExp, invert: boolean): Generator<Piece> {
  let from = 0
  for (const { 0: match, index } of found(text, pattern)) {
    if (index > from) yield { text: text.slice(from, index), match: invert }
    if (match !== '') yield { text: match, match: !invert }
    from = index + match.length
  }
  if (from < text.length) yield { text: text.slice(from), match: invert }
}

/** Whether a piece belongs to the one before it. */
function joins(behavior: string, before: Piece, { match }: Piece): boolean {
  if (behavior === 'contiguous') return match === before.match
  if (behavior === 'mergedwithprevious') return match && !before.match
  return behavior === 'mergedwithnext' && before.match && !match
}

/** Splits a text at the matches of a pattern, as the pre-tokenizers Split and Punctuation of tokenizers (Rust) do. */
export function* splitText(
  text: string,
  pattern: RegExp,
  behavior: string,
  invert: boolean,
): Generator<string> {
  let [joined, before]: [string, Piece | null] = ['', null]
  for (const piece of piecesOf(text, pattern, invert)) {
    if (behavior === 'removed') {
      if (!piece.match) yield piece.text
      continue
    }
    if (before !== null && joins(behavior, before, piece)) joined += piece.text
    else {
      if (before !== null) yield joined
      joined = piece.text
    }
    before = piece
  }
  if (before !== null) yield joined
}

/** The matches of a pattern, without what lies between. */
export function* matchesOf(text: string, pattern: RegExp): Generator<string> {
  for (const [match] of found(text, pattern)) if (match !== '') yield match
}
