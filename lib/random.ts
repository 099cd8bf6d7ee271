/**
 * A random order that is the same on every machine: SplitMix64's finaliser (Steele et al. 2014) over (seed, stream,
 * counter), in 32-bit halves.
 */
export function hash32(seed: number, stream: number, counter: number): number {
  let h =
    Math.imul(seed ^ Math.floor(seed / 2 ** 32), 0x9e3779b1) ^ Math.imul(stream + 0x7f4a7c15, 0x85ebca77)
  h = mix(h ^ Math.imul(counter + 0x165667b1, 0xc2b2ae3d))
  return mix(h + Math.imul(counter, 0x27d4eb2f) + stream) >>> 0
}

function mix(value: number): number {
  let h = value | 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return h ^ (h >>> 16)
}

/** Uniform in [0, 1). */
export function uniform(seed: number, stream: number, counter: number): number {
  return (
    (hash32(seed, stream, counter) * 2 ** 21 + (hash32(seed, stream + 0x10000, counter) >>> 11)) / 2 ** 53
  )
}

/** A permutation of 0 .. count - 1 (Fisher and Yates), decided by seed and stream alone. */
export function permutation(count: number, seed: number, stream: number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i)
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(uniform(seed, stream, i) * (i + 1))
    const kept = order[i]!
    order[i] = order[j]!
    order[j] = kept
  }
  return order
}
