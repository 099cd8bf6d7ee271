/**
 * Streams of counter-based random numbers. Each use of (seed, stream, counter) has its own stream here, so that no two
 * draw the same numbers. Resumed runs depend on these constants: do not change them.
 */
export const STREAM = {
  /** Examples that distill shows its teacher; plus 2 * round, and 1 for written ones. No training uses this stream. */
  distillExamples: 0,
  /** Choice of the rows that a validation fraction takes. */
  validation: 1,
  /** Order of the rows; plus the epoch. */
  order: 1000,
  /** Order within a weighted source; plus source * 100,003 + pass. */
  source: 2_000_000,
  /** Order of the prompts; plus the pass. */
  prompts: 3_000_000,
  /** LoRA dropout; plus the batch within a step. */
  dropout: 4_000_000,
  /** Seed of a rollout; the counter is the iteration. */
  rollout: 5_000_000,
  /** Order of the mini-batches; plus iteration * 1000 + epoch. */
  update: 6_000_000,
} as const

/**
 * A hash that is the same on every machine: SplitMix64's finalizer (Steele et al. 2014) over (seed, stream, counter),
 * in 32-bit halves.
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

/** A permutation of 0 .. count - 1 (Fisher-Yates), determined by seed and stream alone. */
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
