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
  /** The linear layers of the blocks are in 4 bits. */
  coded: boolean
  /** The base has gradients. */
  trained: boolean
}

export const FLOAT = 4

export const valueBytes = ({ machine }: Computed) => (machine.dtype === 'float32' ? FLOAT : 2)

export const plain = ({ machine }: Computed) => machine.device === 'cpu' && machine.dtype === 'float32'

/** CUDA and float32 on the CPU have kernels of our own; elsewhere torch's operations make temporaries. */
export const fused = (of: Computed) => plain(of) || of.machine.device === 'cuda'

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

/** One low-rank product: the rows of the layer that it updates, its rank, and the bytes of its values. */
interface Update {
  rows: number
  rank: number
  bytes: number
}

/** DoRA, PiSSA and OLoRA compute in float32 on a base of half precision. */
export const computesWide = ({ dora }: Pick<AdapterConfig, 'dora'>, { takenOut }: AdapterModule) =>
  dora || takenOut !== undefined

/** Low-rank products of the modules of a layer: PiSSA and OLoRA have one more for what they took out of the base. */
export const updatesOf = (of: Computed, modules: readonly AdapterModule[], rows: number): Update[] =>
  modules.flatMap((module) => {
    const bytes = of.adapter !== null && computesWide(of.adapter, module) ? FLOAT : valueBytes(of)
    const update = { rows: module.rows?.[1] ?? rows, rank: module.rank, bytes }
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
  return { rows, out, in: columns, updates: updatesOf(of, modules, out) }
}

/** Bytes of the parts of a matrix in 4 bits: its codes, the codes of their scales, and the scales of those. */
export function codedBytes(values: number): number[] {
  const blocks = Math.ceil(values / 64)
  return [Math.ceil(values / 2), blocks, Math.ceil(blocks / 256) * FLOAT]
}

/** Values of a piece that torch's operations decode at once: native/device/nf4.cpp. */
const CODED_PIECE = 2 ** 24

/** The values [out, in] of a weight in 4 bits, and what decoding them takes; null where the product reads the codes. */
function decoded(of: Computed, { rows, out, in: columns }: LinearPass, forward: boolean): Held | null {
  const { ledger, adapter } = of
  const scales = Math.ceil((out * columns) / 64) * FLOAT
  const few = forward && plain(of) && rows <= 16 && columns % 64 === 0 && !adapter?.dora
  const values = few ? null : ledger.take('activations', out * columns * valueBytes(of))
  const piece = Math.min(out * columns, CODED_PIECE)
  if (of.machine.device === 'cpu')
    ledger.pass('activations', scales, scales, ...(plain(of) ? [] : [(piece / 2) * FLOAT, piece * FLOAT]))
  return values
}

/** Bytes of [R, K] of the updates that read x in one product: in half precision those of a layer do. */
const togetherBytes = ({ rows, updates }: LinearPass, s: number) =>
  s !== FLOAT && updates.length > 1 && updates.every(({ bytes }) => bytes === s)
    ? rows * updates.reduce((sum, { rank }) => sum + rank, 0) * s
    : null

/** y [R, out]. */
export function linearForward(of: Computed, pass: LinearPass): Held {
  const { ledger } = of
  const s = valueBytes(of)
  const weight = of.coded ? decoded(of, pass, true) : null
  const y = ledger.take('activations', pass.rows * pass.out * s)
  const readAgain = of.adapter?.dora === true && pass.updates.length > 0
  if (!readAgain) ledger.give(weight)
  const together = togetherBytes(pass, s)
  if (together !== null) {
    ledger.pass('activations', together)
    return y
  }
  for (const { rows: updated, rank, bytes } of pass.updates) {
    const copied = s !== bytes
    const input = copied ? ledger.take('activations', pass.rows * pass.in * bytes) : null
    const low = ledger.take('activations', pass.rows * rank * bytes)
    if (of.adapter!.dora) {
      const copies = copied ? [0] : []
      const rows = pass.rows * updated * FLOAT
      ledger.pass('activations', ...[0, ...copies].map(() => updated * pass.in * FLOAT))
      ledger.pass('activations', rows, rows, ...copies.map(() => rows))
    } else if (copied) {
      ledger.pass('activations', pass.rows * updated * bytes)
    }
    ledger.give(input, low)
  }
  if (readAgain) ledger.give(weight)
  return y
}

/** dx [R, in]; gradients of weights are buffers that are there already. */
export function linearBackward(of: Computed, pass: LinearPass): Held {
  const { ledger } = of
  const s = valueBytes(of)
  const weight = of.coded ? decoded(of, pass, false) : null
  const scaled =
    of.adapter?.dora && pass.updates.length > 0 ? ledger.take('activations', pass.rows * pass.out * s) : null
  const dx = ledger.take('activations', pass.rows * pass.in * s)
  ledger.give(scaled)
  const together = togetherBytes(pass, s)
  if (together !== null) {
    ledger.pass('activations', together, together)
    ledger.give(weight)
    return dx
  }
  for (const { rows: updated, rank, bytes } of pass.updates) {
    const low = pass.rows * rank * bytes
    const copies = s === bytes ? [] : [pass.rows * pass.in * bytes, pass.rows * updated * bytes]
    const held = [low, ...copies].map((size) => ledger.take('activations', size))
    if (of.adapter!.dora) {
      const rows = pass.rows * updated * FLOAT
      ledger.pass('activations', updated * pass.in * FLOAT)
      ledger.pass('activations', rows, rows)
      held.push(ledger.take('activations', rows))
    }
    ledger.pass('activations', low)
    if (s !== bytes) ledger.pass('activations', low, pass.rows * pass.in * bytes)
    ledger.give(...held)
  }
  ledger.give(weight)
  return dx
}

/** kPartials of native/device/cuda_fused.cpp. */
const NORM_PARTIALS = 512

/** 1 + weight, for the time of a pass. */
const offsetScale = (of: Computed, width: number, { offset }: NormSpec): Held | null =>
  offset && of.machine.device === 'cpu' ? of.ledger.take('activations', width * FLOAT) : null

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
  if (kind === 'rms' && !fused(of)) {
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
  if (norm.kind === 'rms' && !fused(of)) {
    const wide = Array.from({ length: s === FLOAT ? 6 : 8 }, () => size * FLOAT)
    ledger.pass('activations', ...wide, size * s)
  }
  const dx = ledger.take('activations', size * s)
  // Sums of the weight's gradient, each of some rows
  if (of.machine.device === 'cuda' && norm.kind === 'rms' && of.trained)
    ledger.pass('activations', Math.min(rows, NORM_PARTIALS) * width * FLOAT)
  ledger.give(scale)
  return dx
}
