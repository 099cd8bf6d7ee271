import { createHash } from 'node:crypto'

/** A 64-bit hash of some bytes, as two whole numbers of 32 bits. */
export type Digest = readonly [number, number]

export function digest(content: string | Uint8Array): Digest {
  const bytes = createHash('sha1').update(content).digest()
  return [bytes.readUInt32LE(0), bytes.readUInt32LE(4)]
}

/** Numbers one after another in one typed array that grows. */
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

/** A set of digests, eight bytes each: a Map of strings would end at 16 million rows. Linear probing. */
export class DigestSet {
  #table = new Uint32Array(2 * 1024)
  #size = 0

  get size(): number {
    return this.#size
  }

  has([low, high]: Digest): boolean {
    return this.#find(low, high) < 0
  }

  /** False if it was there already. */
  add([low, high]: Digest): boolean {
    const place = this.#find(low, high)
    if (place < 0) return false
    this.#table[place] = low
    this.#table[place + 1] = high | 1
    this.#size++
    if (this.#size * 4 > this.#table.length) this.#grow()
    return true
  }

  /** Where the digest would go, or -1 if it is there. An empty place has 0 in its second half, a digest never. */
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
