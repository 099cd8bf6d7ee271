/** Percentiles of row lengths, in tokens. */
export interface Lengths {
  min: number
  median: number
  p90: number
  p99: number
  max: number
}

/** Histogram of row lengths, whose size does not grow with the rows. */
export class LengthCounts {
  readonly #counts = new Map<number, number>()
  #rows = 0

  add(length: number): void {
    this.#counts.set(length, (this.#counts.get(length) ?? 0) + 1)
    this.#rows++
  }

  percentiles(): Lengths {
    const lengths = [...this.#counts].sort(([a], [b]) => a - b)
    const at = (q: number): number => {
      let left = Math.min(this.#rows - 1, Math.floor(q * this.#rows))
      for (const [length, count] of lengths) {
        if (left < count) return length
        left -= count
      }
      return 0
    }
    return { min: at(0), median: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) }
  }
}
