/** Growing list of token ids. */
export class IdList {
  #ids = new Int32Array(64)
  #length = 0

  push(id: number): void {
    if (this.#length === this.#ids.length) this.#grow(this.#length + 1)
    this.#ids[this.#length++] = id
  }

  append(ids: ArrayLike<number>): void {
    if (this.#length + ids.length > this.#ids.length) this.#grow(this.#length + ids.length)
    this.#ids.set(ids, this.#length)
    this.#length += ids.length
  }

  /** The ids so far, in memory of their own. */
  finish(): Int32Array {
    return this.#ids.slice(0, this.#length)
  }

  #grow(length: number): void {
    const more = new Int32Array(Math.max(length, this.#ids.length + (this.#ids.length >> 1)))
    more.set(this.#ids)
    this.#ids = more
  }
}
