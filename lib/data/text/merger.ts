/** Places of a word that fit in a key of the queue beside the rank of a merge. */
const PLACES = 2 ** 28

const ASCII = 128
/** Instead of a symbol: of a character that no merge has, and of a place that was merged with the one before. */
const [UNKNOWN, GONE] = [-1, -2]

/** Keys in order, the least first. */
class Queue {
  #keys = new Float64Array(1024)
  #size = 0

  get empty(): boolean {
    return this.#size === 0
  }

  push(key: number): void {
    if (this.#size === this.#keys.length) {
      const more = new Float64Array(this.#size * 2)
      more.set(this.#keys)
      this.#keys = more
    }
    const keys = this.#keys
    let at = this.#size++
    for (let above = (at - 1) >> 1; at > 0 && keys[above]! > key; above = (at - 1) >> 1) {
      keys[at] = keys[above]!
      at = above
    }
    keys[at] = key
  }

  pop(): number {
    const keys = this.#keys
    const first = keys[0]!
    const key = keys[--this.#size]!
    const size = this.#size
    let at = 0
    for (let below = 1; below < size; below = 2 * at + 1) {
      if (below + 1 < size && keys[below + 1]! < keys[below]!) below++
      if (keys[below]! >= key) break
      keys[at] = keys[below]!
      at = below
    }
    keys[at] = key
    return first
  }
}

/** Byte-pair merges: of all pairs in a word the one of the lowest rank is merged, the leftmost of equals, until none is left. */
export class Merger {
  readonly #symbols = new Map<string, number>()
  readonly #ascii: Int32Array
  /** Symbol that each merge makes, by rank. */
  readonly #made: Int32Array
  /** Hash table of pairs with linear probing: both symbols and the rank, plus one; zero where it is free. */
  readonly #table: Int32Array
  readonly #mask: number
  readonly #queue = new Queue()
  #size = 0
  /** Of each place of the word: where its symbol begins, the symbol, and the places before and after it. */
  #starts = new Int32Array(0)
  #at = new Int32Array(0)
  #before = new Int32Array(0)
  #after = new Int32Array(0)

  constructor(merges: readonly (readonly string[])[]) {
    this.#made = new Int32Array(merges.length)
    this.#mask = 2 ** Math.ceil(Math.log2(2 * merges.length + 2)) - 1
    this.#table = new Int32Array(3 * (this.#mask + 1))
    for (const [rank, [left = '', right = '']] of merges.entries()) {
      const [a, b] = [this.#numbered(left), this.#numbered(right)]
      this.#made[rank] = this.#numbered(left + right)
      const slot = this.#slot(a, b)
      this.#table[slot] = a
      this.#table[slot + 1] = b
      this.#table[slot + 2] = rank + 1
    }
    this.#ascii = Int32Array.from({ length: ASCII }, (_, code) => this.#symbolOf(String.fromCharCode(code)))
  }

  /** Tokens of a word. */
  merge(word: string): string[] {
    this.#split(word)
    for (let at = 0; at + 1 < this.#size; at++) this.#offer(at)
    while (!this.#queue.empty) {
      const key = this.#queue.pop()
      const at = key % PLACES
      if (this.#at[at] !== GONE && this.#rank(at) === (key - at) / PLACES) this.#join(at, (key - at) / PLACES)
    }
    const tokens: string[] = []
    for (let at = 0; at >= 0 && this.#size > 0; at = this.#after[at]!) {
      const next = this.#after[at]!
      tokens.push(word.slice(this.#starts[at]!, next < 0 ? word.length : this.#starts[next]!))
    }
    return tokens
  }

  #numbered(text: string): number {
    const known = this.#symbols.get(text)
    if (known !== undefined) return known
    this.#symbols.set(text, this.#symbols.size)
    return this.#symbols.size - 1
  }

  #symbolOf(character: string): number {
    return this.#symbols.get(character) ?? UNKNOWN
  }

  #slot(a: number, b: number): number {
    let slot = (Math.imul(a, 0x9e3779b1) ^ Math.imul(b, 0x85ebca6b)) >>> 7
    for (;;) {
      slot &= this.#mask
      const at = 3 * slot
      if (this.#table[at + 2] === 0 || (this.#table[at] === a && this.#table[at + 1] === b)) return at
      slot++
    }
  }

  #split(word: string): void {
    if (this.#starts.length < word.length) {
      const room = 2 * word.length
      this.#starts = new Int32Array(room)
      this.#at = new Int32Array(room)
      this.#before = new Int32Array(room)
      this.#after = new Int32Array(room)
    }
    let size = 0
    for (let from = 0; from < word.length; size++) {
      const point = word.codePointAt(from)!
      const length = point > 0xffff ? 2 : 1
      this.#starts[size] = from
      this.#at[size] = point < ASCII ? this.#ascii[point]! : this.#symbolOf(word.slice(from, from + length))
      this.#before[size] = size - 1
      this.#after[size] = size + 1
      from += length
    }
    if (size > 0) this.#after[size - 1] = -1
    this.#size = size
  }

  /** Rank of the merge of a place with the next, or -1. */
  #rank(at: number): number {
    const next = this.#after[at]!
    if (next < 0) return -1
    const [a, b] = [this.#at[at]!, this.#at[next]!]
    return a < 0 || b < 0 ? -1 : this.#table[this.#slot(a, b) + 2]! - 1
  }

  #offer(at: number): void {
    const rank = this.#rank(at)
    if (rank >= 0) this.#queue.push(rank * PLACES + at)
  }

  #join(at: number, rank: number): void {
    const next = this.#after[at]!
    const after = this.#after[next]!
    this.#at[at] = this.#made[rank]!
    this.#at[next] = GONE
    this.#after[at] = after
    if (after >= 0) {
      this.#before[after] = at
      this.#offer(at)
    }
    if (this.#before[at]! >= 0) this.#offer(this.#before[at]!)
  }
}
