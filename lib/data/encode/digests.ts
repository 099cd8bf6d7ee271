import { createHash } from 'node:crypto'

/** A 64-bit hash, as two 32-bit integers. */
export type Digest = readonly [number, number]

/** Hash of some content, or of pieces of a text one after another. */
export function digest(content: string | Uint8Array | Iterable<string>): Digest {
  const hash = createHash('sha1')
  if (typeof content === 'string' || content instanceof Uint8Array) hash.update(content)
  else for (const piece of content) hash.update(piece)
  const bytes = hash.digest()
  return [bytes.readUInt32LE(0), bytes.readUInt32LE(4)]
}

/** A list of numbers in one growing typed array. */
export class NumberList {
  #values: Float64Array = new Float64Array(1024)
  #length = 0

  get length(): number {
    return this.#length
  }

  push(value: number): void {
    if (this.#length === this.#values.length) {
      const grown = new Float64Array(this.#length * 2)
      grown.set(this.#values)
      this.#values = grown
    }
    this.#values[this.#length++] = value
  }

  at(index: number): number {
    return this.#values[index]!
  }
}

/** A set of digests, eight bytes each, with linear probing: a Map of strings would be full at 16 million rows. */
export class DigestSet {
  #table = new Uint32Array(2 * 1024)
  #size = 0

  get size(): number {
    return this.#size
  }

  has([low, high]: Digest): boolean {
    return this.#find(low, high) < 0
  }

  /** Returns false if the set has the digest already. */
  add([low, high]: Digest): boolean {
    const place = this.#find(low, high)
    if (place < 0) return false
    this.#table[place] = low
    this.#table[place + 1] = high | 1
    this.#size++
    if (this.#size * 4 > this.#table.length) this.#grow()
    return true
  }

  /** Finds the slot for a new digest, or -1 if the set has it. Only empty slots have 0 in their second half. */
  #find(low: number, high: number): number {
    const mask = this.#table.length / 2 - 1
    const wanted = (high | 1) >>> 0
    for (let place = low & mask; ; place = (place + 1) & mask) {
      const found = this.#table[place * 2 + 1]!
      if (found === 0) return place * 2
      if (found === wanted && this.#table[place * 2] === low >>> 0) return -1
    }
  }

  #grow(): void {
    const old = this.#table
    this.#table = new Uint32Array(old.length * 2)
    for (let i = 0; i < old.length; i += 2) {
      if (old[i + 1] === 0) continue
      const place = this.#find(old[i]!, old[i + 1]!)
      this.#table[place] = old[i]!
      this.#table[place + 1] = old[i + 1]!
    }
  }
}
