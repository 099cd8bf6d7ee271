/** Finds stop texts in streamed text: passes on text that is before any, holds back text that may begin one. */
export class StopText {
  readonly #stops: readonly string[]
  #held = ''

  constructor(stops: readonly string[]) {
    this.#stops = stops
  }

  push(piece: string): { text: string; stopped: boolean } {
    const text = this.#held + piece
    let first = -1
    for (const stop of this.#stops) {
      const at = text.indexOf(stop)
      if (at >= 0 && (first < 0 || at < first)) first = at
    }
    if (first >= 0) {
      this.#held = ''
      return { text: text.slice(0, first), stopped: true }
    }
    const keep = this.#beginning(text)
    this.#held = text.slice(text.length - keep)
    return { text: text.slice(0, text.length - keep), stopped: false }
  }

  end(): string {
    const text = this.#held
    this.#held = ''
    return text
  }

  /** Length of the longest suffix of `text` that begins a stop text. */
  #beginning(text: string): number {
    let longest = 0
    for (const stop of this.#stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
        if (text.endsWith(stop.slice(0, length))) longest = length
      }
    }
    return longest
  }
}
