import type { AddedToken } from './tokenizer-files.js'

/** An added token in a text: [start, end) with the white space that belongs to it, and where the token itself is. */
export interface AddedTokenMatch {
  token: AddedToken
  start: number
  end: number
  tokenStart: number
  tokenEnd: number
  /** Some of its characters are data that cannot make this token, so that it stays text. */
  guarded: boolean
}

/** What of a rendered text is data, in which no special token is read. */
export interface Guard {
  /** Stretches of data, in order. */
  data: readonly { from: number; to: number }[]
  /** Ids of added tokens that data cannot make either, though the tokenizer does not flag them as special. */
  markers?: ReadonlySet<number>
}

/** An added token in a text; `id` is null where its characters come from data, so that it stays text. */
export interface AddedMatch {
  start: number
  end: number
  id: number | null
  special: boolean
}

interface Node {
  next: Map<number, Node>
  token: AddedToken | null
}

/** Finds added tokens in a text: the leftmost first and of those the longest, as Hugging Face's tokenizers do. */
export class AddedTokens {
  readonly #root: Node = { next: new Map(), token: null }

  constructor(tokens: readonly AddedToken[]) {
    for (const token of tokens) {
      let node = this.#root
      for (let i = 0; i < token.content.length; i++) {
        const unit = token.content.charCodeAt(i)
        let next = node.next.get(unit)
        if (next === undefined) {
          next = { next: new Map(), token: null }
          node.next.set(unit, next)
        }
        node = next
      }
      node.token ??= token
    }
  }

  *matches(text: string, from = 0, { data, markers }: Guard = { data: [] }): Generator<AddedTokenMatch> {
    if (this.#root.next.size === 0) return
    let free = from
    let piece = 0
    for (let at = from; at < text.length; ) {
      const token = this.#longest(text, at)
      if (token === null) {
        at++
        continue
      }
      const tokenEnd = at + token.content.length
      while (piece < data.length && data[piece]!.to <= at) piece++
      const inData = piece < data.length && data[piece]!.from < tokenEnd
      if (inData && (token.special || markers?.has(token.id) === true)) {
        yield { token, start: at, end: tokenEnd, tokenStart: at, tokenEnd, guarded: true }
        // Another token may begin inside the characters that stay text.
        at++
        continue
      }
      let start = at
      let end = tokenEnd
      if (token.lstrip) while (start > free && isSpace(text, start - 1)) start--
      if (token.rstrip) while (end < text.length && isSpace(text, end)) end++
      yield { token, start, end, tokenStart: at, tokenEnd, guarded: false }
      at = end
      free = end
    }
  }

  #longest(text: string, at: number): AddedToken | null {
    let node = this.#root.next.get(text.charCodeAt(at))
    let found: AddedToken | null = null
    for (let i = at + 1; node !== undefined; i++) {
      found = node.token ?? found
      node = i < text.length ? node.next.get(text.charCodeAt(i)) : undefined
    }
    return found
  }
}

const isSpace = (text: string, at: number) => /\p{White_Space}/u.test(text[at]!)
