import { PosttrainError } from '../../errors.js'

/** Characters of a word that are merged at once. */
const CHUNK = 8_192
/** Most characters of a word that are merged at once where no shorter beginning has the tokens of the whole. */
const MAX_CHUNK = 2 ** 18
/** Places at the end of a chunk that are tried. */
const PLACES = 8

/** Tokens of a word by byte-pair merges. */
type Merge = (word: string) => string[]

const tooLong = (length: number) =>
  new PosttrainError(
    'ERR_DATA',
    `the tokenizer would take ${length} characters as one word of at least ${MAX_CHUNK}: break the text up`,
  )

/** Part of a word, of whole characters. */
function part(word: string, from: number, length: number): string {
  const last = word.charCodeAt(from + length - 1)
  const within = last >= 0xd800 && last < 0xdc00 && from + length < word.length
  return word.slice(from, from + length - (within ? 1 : 0))
}

/**
 * The tokens of a word of any length by byte-pair merges, merged in chunks. A row of tokens is what merging makes of a
 * word exactly if merging leaves each two neighbors as they are: the first merge across a boundary of the row would be
 * the first across it in the two tokens by themselves too. So a chunk may end at any of its boundaries where this holds
 * for the tokens on both sides.
 */
export function* mergedTokens(merge: Merge, word: string, chunk: number = CHUNK): Generator<string> {
  let [from, length] = [0, chunk]
  let tokens = merge(part(word, from, length))
  while (from + length < word.length) {
    const next = seamOf(merge, word, from, tokens, chunk)
    if (next !== null) {
      yield* tokens.slice(0, next.count)
      ;[from, tokens, length] = [next.from, next.tokens, chunk]
    } else {
      length *= 2
      if (length > MAX_CHUNK) throw tooLong(word.length)
      tokens = merge(part(word, from, length))
    }
  }
  yield* tokens
}

/** The last good end of a chunk, and the tokens of the chunk that follows. */
function seamOf(
  merge: Merge,
  word: string,
  start: number,
  tokens: readonly string[],
  chunk: number,
): { count: number; from: number; tokens: string[] } | null {
  const length = tokens.reduce((sum, token) => sum + token.length, 0)
  let from = start + length
  for (let count = tokens.length - 1; count > 0 && count >= tokens.length - PLACES; count--) {
    from -= tokens[count]!.length
    const next = merge(part(word, from, chunk))
    const pair = merge(tokens[count - 1]! + next[0]!)
    if (pair.length === 2 && pair[0] === tokens[count - 1]) return { count, from, tokens: next }
  }
  return null
}
