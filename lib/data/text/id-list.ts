/** Ids of a block: few texts need a second one. */
const BLOCK = 2 ** 16
const FIRST = 64

/** Growing list of token ids. Its blocks stay where they are, so that growing never holds all ids twice. */
export class IdList {
  readonly #limit: number
  readonly #full: Int32Array[] = []
  #open = new Int32Array(FIRST)
  #filled = 0
  #length = 0

  /** `limit`: ids that are kept; further ones are counted. */
  constructor(limit = Number.POSITIVE_INFINITY) {
    this.#limit = limit
  }

  /** Number of ids so far, those that are not kept included. */
  get length(): number {
    return this.#length
  }

  push(id: number): void {
    if (this.#length++ >= this.#limit) return
    if (this.#filled === this.#open.length) this.#grow()
    this.#open[this.#filled++] = id
  }

  append(ids: ArrayLike<number>): void {
    for (let i = 0; i < ids.length; i++) this.push(ids[i]!)
  }

  /** The ids that were kept, in memory of their own. */
  finish(): Int32Array {
    const ids = new Int32Array(this.#full.length * BLOCK + this.#filled)
    for (const [i, block] of this.#full.entries()) ids.set(block, i * BLOCK)
    ids.set(this.#open.subarray(0, this.#filled), this.#full.length * BLOCK)
    return ids
  }

  #grow(): void {
    const { length } = this.#open
    if (length === BLOCK) {
      this.#full.push(this.#open)
      this.#open = new Int32Array(BLOCK)
      this.#filled = 0
      return
    }
    const more = new Int32Array(Math.min(2 * length, BLOCK))
    more.set(this.#open)
    this.#open = more
  }
}
