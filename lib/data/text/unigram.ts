import { PosttrainError } from '../../errors.js'
import type { IdList } from './id-list.js'

/** Characters of a word that are looked at before the first of its tokens are certain. */
const WINDOW = 8_192
const NOWHERE = -1
const UNKNOWN = -1

interface PieceNode {
  is_leaf: boolean
  children: ReadonlyMap<string, PieceNode>
}

/** The vocabulary of a Unigram model, as the library holds it. */
export interface Vocabulary {
  config: { vocab: readonly (readonly [string, number])[]; byte_fallback?: boolean }
  trie: { root: PieceNode }
  tokens_to_ids: ReadonlyMap<string, number>
  unk_token_id: number | null | undefined
  /** Of a character that is no token. */
  unk_score: number
}

/**
 * The likeliest tokens of a word by a Unigram model, as tokenizers (Rust) finds them: of equal ones the first found.
 * Memory holds a window of the word, since all ways on from one place soon share their beginning.
 */
export class Unigram {
  readonly #model: Vocabulary
  /** Tokens that no text makes. */
  readonly #excluded: ReadonlySet<string>
  readonly #window: number
  /** For each place of the window: score of the best way to it, where its last token begins, and that token. */
  #scores = new Float64Array(256)
  #starts = new Int32Array(256)
  #tokens = new Int32Array(256)

  constructor(model: Vocabulary, excluded: ReadonlySet<string>, window: number = WINDOW) {
    this.#model = model
    this.#excluded = excluded
    this.#window = window
  }

  /** Adds the ids of a word; ERR_INVALID_FILE where a part of it has none. */
  encode(word: string, into: IdList): void {
    let [base, window] = [0, this.#window]
    let last = 0
    let pending = ''
    this.#starts.fill(NOWHERE, 0, word.length + 1)
    this.#scores[0] = 0
    /** Adds the tokens of the best way to a place, and starts the window there. */
    const settle = (to: number) => {
      for (const [id, text] of this.#way(word, base, to)) {
        if (id === UNKNOWN) pending += text
        else {
          if (pending !== '') this.#unknown(pending, into)
          pending = ''
          into.push(id)
        }
      }
      this.#shift(to - base, last - base)
      base = to
    }
    for (let at = 0; at < word.length; ) {
      if (at - base >= window) {
        const seam = base + this.#seam(at - base, last - base)
        if (seam > base) settle(seam)
        window = Math.max(this.#window, 2 * (at - base))
      }
      const width = word.codePointAt(at)! > 0xffff ? 2 : 1
      last = Math.max(last, this.#extend(word, base, at, width))
      at += width
    }
    settle(word.length)
    if (pending !== '') this.#unknown(pending, into)
  }

  /** Tries each token that begins at a place; returns the end of the longest. */
  #extend(word: string, base: number, at: number, width: number): number {
    const { config, trie, tokens_to_ids: idOf, unk_score: unknown } = this.#model
    let end = at
    let single = false
    let longest = at
    for (let node: PieceNode | undefined = trie.root; end < word.length; ) {
      const next: number = end + (word.codePointAt(end)! > 0xffff ? 2 : 1)
      node = node.children.get(word.slice(end, next))
      if (node === undefined) break
      end = next
      if (!node.is_leaf) continue
      const piece = word.slice(at, end)
      if (this.#excluded.has(piece)) continue
      const id = idOf.get(piece)!
      this.#offer(at - base, end - base, config.vocab[id]![1], id)
      longest = end
      if (end - at === width) single = true
    }
    if (single) return longest
    this.#offer(at - base, at + width - base, unknown, UNKNOWN)
    return Math.max(longest, at + width)
  }

  #offer(start: number, end: number, score: number, token: number): void {
    if (end >= this.#starts.length) this.#grow(end + 1)
    const whole = this.#scores[start]! + score
    if (this.#starts[end] !== NOWHERE && whole <= this.#scores[end]!) return
    this.#scores[end] = whole
    this.#starts[end] = start
    this.#tokens[end] = token
  }

  #grow(length: number): void {
    const size = Math.max(length, this.#starts.length * 2)
    const [scores, starts, tokens] = [this.#scores, this.#starts, this.#tokens]
    this.#scores = new Float64Array(size)
    this.#starts = new Int32Array(size).fill(NOWHERE)
    this.#tokens = new Int32Array(size)
    this.#scores.set(scores)
    this.#starts.set(starts)
    this.#tokens.set(tokens)
  }

  /** The last place that every way on from `at` has passed; 0, the start of the window, where there is no other. */
  #seam(at: number, last: number): number {
    const live = new Set([at])
    for (let place = at + 1; place <= last; place++) if (this.#starts[place] !== NOWHERE) live.add(place)
    for (let place = last; place > 0; place--) {
      if (!live.has(place)) continue
      if (live.size === 1) return place
      live.delete(place)
      live.add(this.#starts[place]!)
    }
    return 0
  }

  /** Tokens of the best way from the start of the window to a place, with the text of unknown ones. */
  #way(word: string, base: number, to: number): [id: number, text: string][] {
    const way: [number, string][] = []
    for (let place = to - base; place > 0; place = this.#starts[place]!) {
      const token = this.#tokens[place]!
      const start = this.#starts[place]!
      way.push([token, token === UNKNOWN ? word.slice(base + start, base + place) : ''])
    }
    return way.reverse()
  }

  /** Moves the window to a place of it. */
  #shift(by: number, last: number): void {
    this.#scores.copyWithin(0, by, last + 1)
    this.#starts.copyWithin(0, by, last + 1)
    this.#tokens.copyWithin(0, by, last + 1)
    this.#starts.fill(NOWHERE, last + 1 - by, last + 1)
    for (let place = 1; place <= last - by; place++)
      if (this.#starts[place] !== NOWHERE) this.#starts[place]! -= by
  }

  /** Neighboring unknown characters are one token, or their bytes where the vocabulary has them. */
  #unknown(text: string, into: IdList): void {
    const { config, tokens_to_ids: idOf, unk_token_id: unknown } = this.#model
    if (config.byte_fallback === true) {
      const bytes = Array.from(Buffer.from(text), (byte) =>
        idOf.get(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`),
      )
      if (bytes.every((id) => id !== undefined)) {
        into.append(bytes)
        return
      }
    }
    if (unknown == null) {
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        'tokenizer.json has no token for a part of the text, and none for unknown ones (model.unk_id)',
      )
    }
    into.push(unknown)
  }
}
