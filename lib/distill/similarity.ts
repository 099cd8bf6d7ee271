/** Words in lower case without punctuation; for scripts without spaces, single characters. */
export function tokensOf(text: string): string[] {
  const found = text
    .normalize('NFKC')
    .toLowerCase()
    .match(/[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]|[\p{L}\p{M}\p{N}]+/gu)
  // `?!` or a smiley would leave nothing to compare.
  return found ?? [text.trim()]
}

/**
 * ROUGE-L F1 of two token lists, 0 to 1: twice their longest common subsequence over the sum of their lengths (Lin 2004,
 * "ROUGE: A Package for Automatic Evaluation of Summaries", section 3, with beta 1).
 */
export function rougeL(a: readonly string[], b: readonly string[]): number {
  if (a.length === 0 || b.length === 0) return 0
  let row = new Uint32Array(b.length + 1)
  let last = new Uint32Array(b.length + 1)
  for (const token of a) {
    const kept = last
    last = row
    row = kept
    for (let j = 1; j <= b.length; j++) {
      row[j] = token === b[j - 1] ? last[j - 1]! + 1 : Math.max(last[j]!, row[j - 1]!)
    }
  }
  return (2 * row[b.length]!) / (a.length + b.length)
}

export interface Likeness {
  like: string
  similarity: number
}

/** Existing texts, in which a new one's duplicates are found. */
export class KnownTexts {
  readonly #threshold: number
  readonly #exact = new Map<string, string>()
  readonly #texts: { text: string; tokens: string[]; counts: Map<string, number> }[] = []

  /** `threshold`: ROUGE-L from which a text counts as a duplicate. */
  constructor(threshold: number) {
    this.#threshold = threshold
  }

  /** Finds the first text equal to `text` but for case and punctuation, or too similar to it. */
  find(text: string): Likeness | null {
    const tokens = tokensOf(text)
    const same = this.#exact.get(tokens.join(' '))
    if (same !== undefined) return { like: same, similarity: 1 }
    for (const known of this.#texts) {
      const needed = (this.#threshold * (tokens.length + known.tokens.length)) / 2
      if (Math.min(tokens.length, known.tokens.length) < needed || shared(tokens, known.counts) < needed)
        continue
      const similarity = rougeL(tokens, known.tokens)
      if (similarity >= this.#threshold) return { like: known.text, similarity }
    }
    return null
  }

  add(text: string): void {
    const tokens = tokensOf(text)
    const counts = new Map<string, number>()
    for (const token of tokens) counts.set(token, (counts.get(token) ?? 0) + 1)
    this.#exact.set(tokens.join(' '), text)
    this.#texts.push({ text, tokens, counts })
  }
}

/** Number of common tokens in any order: an upper bound on the longest common subsequence. */
function shared(tokens: readonly string[], counts: ReadonlyMap<string, number>): number {
  const used = new Map<string, number>()
  let count = 0
  for (const token of tokens) {
    const before = used.get(token) ?? 0
    if (before >= (counts.get(token) ?? 0)) continue
    used.set(token, before + 1)
    count++
  }
  return count
}
