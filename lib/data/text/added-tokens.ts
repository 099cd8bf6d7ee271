import type { AddedToken } from './tokenizer-files.js'

/** An added token in a text: [start, end) with the white space that belongs to it, and where the token itself is. */
export interface AddedTokenMatch {
  token: AddedToken
  start: number
  end: number
  tokenStart: number
  tokenEnd: number
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

  *matches(text: string, from = 0): Generator<AddedTokenMatch> {
    if (this.#root.next.size === 0) return
    let free = from
    for (let at = from; at < text.length; ) {
      const token = this.#longest(text, at)
      if (token === null) {
        at++
        continue
      }
      const tokenEnd = at + token.content.length
      let start = at
      let end = tokenEnd
      if (token.lstrip) while (start > free && isSpace(text, start - 1)) start--
      if (token.rstrip) while (end < text.length && isSpace(text, end)) end++
      yield { token, start, end, tokenStart: at, tokenEnd }
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

const isSpace = (text: string, at: number) => /\s/.test(text[at]!)
