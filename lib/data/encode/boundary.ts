import type { Guard } from '../text/added-tokens.js'
import type { Tokenizer } from '../text/tokenizer.js'

/** Characters on each side of a boundary that decide whether tokens would cross it. */
const NEIGHBORS = 64
/** Characters of a text that are encoded at once, since a tokenizer needs many times the memory of its text. */
const PIECE = 2 ** 15
/** Boundaries of a piece that are tried, near its end: of words, lines and sentences. */
const CANDIDATE = /\p{L}(?= \p{L})|\n(?=\S)|[。！？，、；](?=\p{L})/gu

interface Reading {
  /** The text begins where the left piece does. */
  first?: boolean
  /** Default true. */
  allowSpecial?: boolean
}

/** A piece of text, with what of it is data; without a guard special tokens are read as `allowSpecial` says. */
interface Part {
  text: string
  guard?: Guard
}

/** Whether two pieces of text would get other ids if encoded as one. */
export function boundaryDiffers(
  left: Part,
  right: Part,
  tokenizer: Tokenizer,
  { first = false, allowSpecial = true }: Reading,
): boolean {
  const from = Math.max(left.text.length - NEIGHBORS, 0)
  const before = shifted({ ...left, text: left.text.slice(from) }, -from)
  const after = { ...right, text: right.text.slice(0, NEIGHBORS) }
  const start = first && from === 0
  const encode = ({ text, guard }: Part, at: boolean) =>
    tokenizer.encode(text, { allowSpecial, first: at, ...(guard && { guard }) })
  const apart = [...encode(before, start), ...encode(after, false)]
  const joint = encode(joined(before, shifted(after, before.text.length)), start)
  return joint.length !== apart.length || joint.some((id, i) => id !== apart[i])
}

function shifted({ text, guard }: Part, by: number): Part {
  if (guard === undefined) return { text }
  const data = guard.data.map(({ from, to }) => ({ from: from + by, to: to + by }))
  return { text, guard: { ...guard, data } }
}

function joined(left: Part, right: Part): Part {
  const text = left.text + right.text
  if (left.guard === undefined || right.guard === undefined) return { text }
  return { text, guard: { ...left.guard, data: [...left.guard.data, ...right.guard.data] } }
}

/** Encodes a text of any length: in pieces between which no token lies, so that the ids are those of the whole. */
export function encodeLong(text: string, tokenizer: Tokenizer, allowSpecial: boolean): Int32Array {
  if (text.length <= 2 * PIECE) return tokenizer.encode(text, { allowSpecial })
  const pieces: Int32Array[] = []
  let from = 0
  while (from < text.length) {
    const to = text.length - from <= 2 * PIECE ? text.length : pieceEnd(text, from, tokenizer, allowSpecial)
    pieces.push(tokenizer.encode(text.slice(from, to), { allowSpecial, first: from === 0 }))
    from = to
  }
  const ids = new Int32Array(pieces.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const piece of pieces) {
    ids.set(piece, at)
    at += piece.length
  }
  return ids
}

function pieceEnd(text: string, from: number, tokenizer: Tokenizer, allowSpecial: boolean): number {
  CANDIDATE.lastIndex = from + PIECE
  for (let found = CANDIDATE.exec(text); found !== null; found = CANDIDATE.exec(text)) {
    const at = CANDIDATE.lastIndex
    const [left, right] = [text.slice(at - NEIGHBORS, at), text.slice(at, at + NEIGHBORS)]
    if (!boundaryDiffers({ text: left }, { text: right }, tokenizer, { allowSpecial })) return at
  }
  return text.length
}
