/** Purposes of memory. */
export const PARTS = [
  'weights',
  'adapters',
  'heads',
  'gradients',
  'optimizer',
  'cache',
  'activations',
  'loss',
] as const
export type Part = (typeof PARTS)[number]

/** Bytes by part, and their sum. */
export type Bytes = Record<Part, number> & { total: number }

/** One tensor in memory. */
export interface Held {
  readonly part: Part
  readonly bytes: number
}

const MEBI = 2 ** 20

/** Block size that a device's allocator returns for a request: native/core/allocator.cpp, or CUDA's blocks of 512. */
export function blockSize(bytes: number, device: 'cpu' | 'cuda'): number {
  if (bytes === 0) return 0
  if (device === 'cuda') return Math.ceil(bytes / 512) * 512
  // malloc's chunks have a header of 8 bytes.
  if (bytes < MEBI) return Math.max(24, Math.ceil((bytes - 8) / 16) * 16 + 8)
  const step = Math.max(4096, 2 ** Math.floor(Math.log2(bytes)) / 8)
  return Math.ceil(bytes / step) * step
}

/** Follows what is taken and given back, and keeps the moment at which most was held. */
export class Ledger {
  readonly #device: 'cpu' | 'cuda'
  readonly #now: Bytes = noBytes()
  #peak: Bytes = noBytes()

  constructor(device: 'cpu' | 'cuda') {
    this.#device = device
  }

  take(part: Part, bytes: number): Held {
    const held = { part, bytes: blockSize(bytes, this.#device) }
    this.#now[part] += held.bytes
    this.#now.total += held.bytes
    if (this.#now.total > this.#peak.total) this.#peak = { ...this.#now }
    return held
  }

  give(...all: readonly (Held | null)[]): void {
    for (const held of all) {
      if (held === null) continue
      this.#now[held.part] -= held.bytes
      this.#now.total -= held.bytes
    }
  }

  /** Tensors that are all there at once and then gone. */
  pass(part: Part, ...bytes: readonly number[]): void {
    this.give(...bytes.map((size) => this.take(part, size)))
  }

  get now(): Bytes {
    return { ...this.#now }
  }

  /** The most since the ledger began, or since this was last asked. */
  takePeak(): Bytes {
    const peak = this.#peak
    this.#peak = { ...this.#now }
    return peak
  }
}

function noBytes(): Bytes {
  return Object.fromEntries([...PARTS, 'total'].map((part) => [part, 0])) as Bytes
}
