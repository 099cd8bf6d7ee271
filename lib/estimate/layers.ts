// Allocations of the operations of native/nn and native/device, in their order: each function takes what its C++ counterpart takes.
// T tokens, R rows, D hidden size, s bytes of a value.
import type { DecoderSpec, LayerSpec, NormSpec } from '../addon/addon.js'
import type { AdapterModule } from '../models/adapter-modules.js'
import type { AdapterConfig } from '../models/lora.js'
import type { Held, Ledger } from './ledger.js'

/** Where and in what a model computes. */
export interface Machine {
  device: 'cpu' | 'cuda'
  dtype: 'float32' | 'bfloat16'
  threads: number
}

/** One model's forward and backward: its decoder, and what of it is trained. */
export interface Computed {
  machine: Machine
  ledger: Ledger
  spec: DecoderSpec
  adapter: AdapterConfig | null
  /** The base has gradients. */
  trained: boolean
}

export const FLOAT = 4

export const valueBytes = ({ machine }: Computed) => (machine.dtype === 'float32' ? FLOAT : 2)

/** Float32 on the CPU has kernels of its own; elsewhere torch's operations make temporaries. */
export const plain = ({ machine }: Computed) => machine.device === 'cpu' && machine.dtype === 'float32'

/** A linear layer of a block. */
export type BlockLinear = Exclude<AdapterModule['linear'], 'embed' | 'positions' | 'head'>

/** [out, in] of a linear layer of a block. */
export function linearShape(layer: LayerSpec, hidden: number, linear: BlockLinear): [number, number] {
  const { heads, kvHeads, headDim, mlp } = layer
  switch (linear) {
    case 'qkv':
      return [(heads + 2 * kvHeads) * headDim, hidden]
    case 'out':
      return [hidden, heads * headDim]
    case 'up':
      return [mlp.intermediateSize * (mlp.kind === 'gated' ? 2 : 1), hidden]
    case 'down':
      return [hidden, mlp.intermediateSize]
    default:
      return linear satisfies never
  }
}

/** One low-rank product: the rows of the layer that it updates, and its rank. */
interface Update {
  rows: number
  rank: number
}

/** Low-rank products of the modules of a layer: PiSSA and OLoRA have one more for what they took out of the base. */
export const updatesOf = (modules: readonly AdapterModule[], rows: number): Update[] =>
  modules.flatMap((module) => {
    const update = { rows: module.rows?.[1] ?? rows, rank: module.rank }
    return module.takenOut === undefined ? [update] : [update, update]
  })

/** One linear layer in one pass. */
interface LinearPass {
  rows: number
  out: number
  in: number
  updates: Update[]
}

export function linearPass(of: Computed, index: number, linear: BlockLinear, rows: number): LinearPass {
  const [out, columns] = linearShape(of.spec.layers[index]!, of.spec.hiddenSize, linear)
  const modules = (of.adapter?.modules ?? []).filter(
    (module) => module.layer === index && module.linear === linear,
  )
  return { rows, out, in: columns, updates: updatesOf(modules, out) }
}

/** y [R, out]. */
export function linearForward(of: Computed, pass: LinearPass): Held {
  const { ledger } = of
  const s = valueBytes(of)
  const y = ledger.take('activations', pass.rows * pass.out * s)
  for (const { rows: updated, rank } of pass.updates) {
    const input = s === FLOAT ? null : ledger.take('activations', pass.rows * pass.in * FLOAT)
    const low = ledger.take('activations', pass.rows * rank * FLOAT)
    if (of.adapter!.dora) {
      const copies = s === FLOAT ? [] : [0]
      const rows = pass.rows * updated * FLOAT
      ledger.pass('activations', ...[0, ...copies].map(() => updated * pass.in * FLOAT))
      ledger.pass('activations', rows, rows, ...copies.map(() => rows))
    } else if (s !== FLOAT) {
      ledger.pass('activations', pass.rows * updated * FLOAT)
    }
    ledger.give(input, low)
  }
  return y
}

/** dx [R, in]; gradients of weights are buffers that are there already. */
export function linearBackward(of: Computed, pass: LinearPass): Held {
  const { ledger } = of
  const s = valueBytes(of)
  // Half precision adds a product of its own to the float32 buffer.
  if (of.trained && s !== FLOAT) ledger.pass('activations', pass.out * pass.in * s)
  const scaled =
    of.adapter?.dora && pass.updates.length > 0 ? ledger.take('activations', pass.rows * pass.out * s) : null
  const dx = ledger.take('activations', pass.rows * pass.in * s)
  ledger.give(scaled)
  for (const { rows: updated, rank } of pass.updates) {
    const wide = s === FLOAT ? [] : [pass.rows * pass.in * FLOAT, pass.rows * updated * FLOAT]
    const held = [pass.rows * rank * FLOAT, ...wide].map((bytes) => ledger.take('activations', bytes))
    if (of.adapter!.dora) {
      const rows = pass.rows * updated * FLOAT
      ledger.pass('activations', updated * pass.in * FLOAT)
      ledger.pass('activations', rows, rows)
      held.push(ledger.take('activations', rows))
    }
    ledger.pass('activations', pass.rows * rank * FLOAT)
    if (s !== FLOAT) ledger.pass('activations', pass.rows * rank * FLOAT, pass.rows * pass.in * FLOAT)
    ledger.give(...held)
  }
  return dx
}

/** 1 + weight, for the time of a pass. */
const offsetScale = (of: Computed, width: number, { offset }: NormSpec): Held | null =>
  offset ? of.ledger.take('activations', width * FLOAT) : null

/** y [R, width], and what its backward needs of each row. */
export function normForward(of: Computed, rows: number, width: number, norm: NormSpec): Held[] {
  const { ledger } = of
  const { kind } = norm
  const s = valueBytes(of)
  const size = rows * width
  const scale = offsetScale(of, width, norm)
  const kept = Array.from({ length: kind === 'layer' ? 2 : 1 }, () =>
    ledger.take('activations', rows * FLOAT),
  )
  if (kind === 'rms' && !plain(of)) {
    const wide = s === FLOAT ? [] : [size * FLOAT, size * s]
    ledger.pass('activations', size * FLOAT, ...wide, size * s)
  }
  const y = ledger.take('activations', size * s)
  ledger.give(scale)
  return [y, ...kept]
}

/** dx [R, width]. */
export function normBackward(of: Computed, rows: number, width: number, norm: NormSpec): Held {
  const { ledger } = of
  const s = valueBytes(of)
  const size = rows * width
  const scale = offsetScale(of, width, norm)
  if (norm.kind === 'rms' && !plain(of)) {
    const wide = Array.from({ length: s === FLOAT ? 6 : 8 }, () => size * FLOAT)
    ledger.pass('activations', ...wide, size * s)
  }
  const dx = ledger.take('activations', size * s)
  ledger.give(scale)
  return dx
}

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
  if (machine.dtype === 'bfloat16') return headDim % 8 === 0 && headDim <= 256 ? 'flash' : null
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
