import { permutation, STREAM } from '../../random.js'
import type { PromptItem, PromptSet } from '../prompts.js'

/** Takes prompts `from` to `from + count - 1` of an endless sequence of passes, each shuffled anew. */
export function takePrompts(
  set: PromptSet,
  options: { from: number; count: number; seed: number; shuffle: boolean },
): PromptItem[] {
  const { from, count, seed, shuffle } = options
  const size = set.items.length
  let pass = -1
  let order: Uint32Array | null = null
  return Array.from({ length: count }, (_, i) => {
    const current = Math.floor((from + i) / size)
    if (current !== pass) {
      pass = current
      order = shuffle ? permutation(size, seed, STREAM.prompts + pass) : null
    }
    const place = (from + i) % size
    return set.items[order === null ? place : order[place]!]!
  })
}
