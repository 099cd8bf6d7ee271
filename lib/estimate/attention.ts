// Allocations of the attention of native/device, in their order. T tokens, s bytes of a value.
import type { LayerSpec } from '../addon/addon.js'
import { type Computed, FLOAT, valueBytes } from './layers.js'
import type { Held } from './ledger.js'

/** Rows of queries and keys that the fused kernel of the CPU takes at once. */
function kernelBlock(queries: number, keys: number): [number, number] {
  const block = queries >= 768 ? 256 : queries >= 192 ? 64 : 32
  return [Math.min(block, queries), Math.min(512, keys)]
}

/** Queries in one call of a sliding window: kWindowBlock in native/device/attention_pieces.cpp. */
const WINDOW_BLOCK = 128

/** Queries and keys of the largest call for a document, and how many of its calls there are. */
function callOf(length: number, window: number | null): { queries: number; keys: number; masked: boolean } {
  if (window === null || length <= window) return { queries: length, keys: length, masked: false }
  const queries = Math.min(WINDOW_BLOCK, length)
  return { queries, keys: Math.min(length, queries + window - 1), masked: true }
}

/** The attention of CUDA that takes packed documents in one call, where there is one: see native/device/cuda.cpp. */
function fusedOf({ machine }: Computed, { headDim }: LayerSpec): 'flash' | 'efficient' | null {
  if (machine.device === 'cpu') return null
  // Not on every device has the backward of these heads.
  const isServed = headDim % 8 === 0 && headDim <= 256 && (headDim <= 192 || headDim > 224)
  if (machine.dtype === 'bfloat16') return isServed ? 'flash' : null
  return headDim % 4 === 0 ? 'efficient' : null
}

/** Keys and values once for each query head; 0 where each has its own. */
const groupedBytes = (layer: LayerSpec, tokens: number, s: number) =>
  layer.heads === layer.kvHeads ? 0 : tokens * layer.heads * layer.headDim * s

/** out [T, heads * headDim] and the log-sum-exp of each document. */
export function attentionForward(
  of: Computed,
  layer: LayerSpec,
  lengths: readonly number[],
): { out: Held; lse: Held[] } {
  const { ledger, machine } = of
  const s = valueBytes(of)
  const { heads, headDim } = layer
  const tokens = lengths.reduce((sum, length) => sum + length, 0)
  const fused = fusedOf(of, layer)
  if (fused !== null) {
    const copies = fused === 'flash' ? 0 : groupedBytes(layer, tokens, s)
    ledger.pass('activations', copies, copies, tokens * heads * headDim * s)
    const rows = fused === 'flash' ? tokens : lengths.length * Math.ceil(Math.max(...lengths) / 32) * 32
    return {
      out: ledger.take('activations', tokens * heads * headDim * s),
      lse: [ledger.take('activations', rows * heads * FLOAT)],
    }
  }
  const out = ledger.take('activations', tokens * heads * headDim * s)
  const lse: Held[] = []
  for (const length of lengths) {
    const { queries, keys, masked } = callOf(length, layer.window)
    const mask = masked ? queries * keys * (s + 3) : 0
    if (machine.device === 'cpu') {
      const [q, k] = kernelBlock(queries, keys)
      const scratch = machine.threads * (q * k + 2 * q + q * headDim) * FLOAT
      ledger.pass('activations', mask, queries * heads * headDim * s, queries * heads * FLOAT, scratch)
    } else {
      const scores = heads * queries * keys
      const grouped = heads === layer.kvHeads ? 0 : keys * heads * headDim * s
      ledger.pass('activations', grouped, queries * keys * (s + 3), scores * s, scores * s, scores * FLOAT)
      ledger.pass(
        'activations',
        scores * FLOAT,
        scores * FLOAT,
        scores * s,
        grouped,
        queries * heads * headDim * s,
      )
    }
    lse.push(ledger.take('activations', length * heads * FLOAT))
  }
  return { out, lse }
}

/** dqkv [T, W]. */
export function attentionBackward(of: Computed, layer: LayerSpec, lengths: readonly number[]): Held {
  const { ledger, machine } = of
  const s = valueBytes(of)
  const { heads, kvHeads, headDim } = layer
  const tokens = lengths.reduce((sum, length) => sum + length, 0)
  const fused = fusedOf(of, layer)
  if (fused !== null) {
    const gradients = [heads, kvHeads, kvHeads].map((count) => tokens * count * headDim * s)
    const copies = groupedBytes(layer, tokens, s)
    if (fused === 'flash') {
      // dq adds up in float32, each document from a block of its own on; dk and dv come for each query head.
      const rows = (tokens + 128 * lengths.length) * heads
      const unit = headDim <= 128 ? 32 : 64
      const sums = rows * Math.ceil(headDim / unit) * unit * FLOAT
      ledger.pass('activations', ...gradients, copies, copies, rows * FLOAT, sums)
    } else {
      ledger.pass('activations', copies, copies, copies, copies, ...gradients, tokens * heads * FLOAT)
    }
    const held = gradients.map((bytes) => ledger.take('activations', bytes))
    const dqkv = ledger.take('activations', tokens * (heads + 2 * kvHeads) * headDim * s)
    ledger.give(...held)
    return dqkv
  }
  const dqkv = ledger.take('activations', tokens * (heads + 2 * kvHeads) * headDim * s)
  for (const length of lengths) {
    const { queries, keys, masked } = callOf(length, layer.window)
    const ofHeads = [queries * heads, keys * kvHeads, keys * kvHeads].map((rows) => rows * headDim * s)
    if (machine.device === 'cpu') {
      const [q, k] = kernelBlock(queries, keys)
      const scratch = machine.threads * 2 * q * k * FLOAT
      ledger.pass('activations', ...ofHeads, scratch, masked ? queries * keys * (s + 3) : 0)
    } else {
      const scores = heads * queries * keys
      const grouped = heads === kvHeads ? 0 : keys * heads * headDim * s
      ledger.pass('activations', grouped, grouped, ...[1, 2, 3, 4, 5].map(() => scores * FLOAT), scores * s)
      ledger.pass('activations', ...ofHeads, grouped, grouped, scores * FLOAT, scores * FLOAT, scores * s)
    }
  }
  return dqkv
}
