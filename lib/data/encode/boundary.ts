import type { Guard } from '../text/added-tokens.js'
import type { Tokenizer } from '../text/tokenizer.js'

/** Characters on each side of a boundary that decide whether tokens would cross it. */
const NEIGHBORS = 64

/** A piece of text, with what of it is data; without a guard special tokens are read as such. */
interface Part {
  text: string
  guard?: Guard
}

/** Whether two pieces of text would get other ids if encoded as one. */
export function boundaryDiffers(
  left: Part,
  right: Part,
  tokenizer: Tokenizer,
  /** `first`: the text begins where the left piece does. */
  { first }: { first: boolean },
): boolean {
  const from = Math.max(left.text.length - NEIGHBORS, 0)
  const before = shifted({ ...left, text: left.text.slice(from) }, -from)
  const after = { ...right, text: right.text.slice(0, NEIGHBORS) }
  const start = first && from === 0
  const encode = ({ text, guard }: Part, at: boolean) =>
    tokenizer.encode(text, { allowSpecial: true, first: at, ...(guard && { guard }) })
  const apart = [...encode(before, start), ...encode(after, false)]
  const joint = encode(joined(before, shifted(after, before.text.length)), start)
  return joint.length !== apart.length || joint.some((id, i) => id !== apart[i])
}

function shifted({ text, guard }: Part, by: number): Part {
  if (guard === undefined) return { text }
  const data = guard.data.map(({ from, to }) => ({ from: from + by, to: to + by }))
  return { text, guard: { ...guard, data } }
}

function joined(left: Part, right: Part): Part {
  const text = left.text + right.text
  if (left.guard === undefined || right.guard === undefined) return { text }
  return { text, guard: { ...left.guard, data: [...left.guard.data, ...right.guard.data] } }
}
