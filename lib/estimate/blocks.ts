// What a block allocates and keeps: native/models/block.cpp.
import type { AdapterModule } from '../models/lora.js'
import {
  attentionBackward,
  attentionForward,
  type Computed,
  linearBackward,
  linearForward,
  linearPass,
  normBackward,
  normForward,
  plain,
  valueBytes,
} from './layers.js'
import type { Held } from './ledger.js'

/** One block on T tokens, of which `rows` go on (all where null). y [R, D], and its trace without the input. */
export function blockForward(
  of: Computed,
  index: number,
  lengths: readonly number[],
  rows: number | null,
): { y: Held; trace: Held[] } {
  const { ledger, spec } = of
  const s = valueBytes(of)
  const layer = spec.layers[index]!
  const { heads, kvHeads, headDim, mlp } = layer
  const hidden = spec.hiddenSize
  const tokens = lengths.reduce((sum, length) => sum + length, 0)
  const further = rows ?? tokens
  const linear = (name: AdapterModule['linear'], count: number) =>
    linearForward(of, linearPass(of, index, name, count))

  const trace = normForward(of, tokens, hidden, spec.norm.kind)
  trace.push(linear('qkv', tokens))
  if (layer.qkNorm) {
    for (const count of [heads, kvHeads]) {
      trace.push(ledger.take('activations', tokens * count * headDim * s))
    }
    for (const count of [heads, kvHeads]) {
      const [y, ...kept] = normForward(of, tokens * count, headDim, 'rms')
      ledger.give(y!)
      trace.push(...kept)
    }
  }
  if (layer.rope !== null && !plain(of)) {
    const half = (tokens * (heads + kvHeads) * headDim * s) / 2
    ledger.pass('activations', tokens * headDim * s, half, half, half, half, half)
  }
  const { out, lse } = attentionForward(of, layer, lengths)
  trace.push(out, ...lse)
  if (rows !== null) trace.push(ledger.take('activations', rows * heads * headDim * s))
  const middle = linear('out', further)
  if (rows !== null) ledger.pass('activations', rows * hidden * s)
  trace.push(middle, ...normForward(of, further, hidden, spec.norm.kind))
  trace.push(linear('up', further))
  const inner = further * mlp.intermediateSize * s
  const fused = plain(of) && mlp.activation === 'silu'
  const activated = mlp.kind === 'gated' && !fused ? ledger.take('activations', inner) : null
  trace.push(ledger.take('activations', inner))
  ledger.give(activated)
  return { y: linear('down', further), trace }
}

/** dx [T, D]. */
export function blockBackward(
  of: Computed,
  index: number,
  lengths: readonly number[],
  rows: number | null,
): Held {
  const { ledger, spec } = of
  const s = valueBytes(of)
  const layer = spec.layers[index]!
  const { heads, kvHeads, headDim, mlp } = layer
  const hidden = spec.hiddenSize
  const tokens = lengths.reduce((sum, length) => sum + length, 0)
  const further = rows ?? tokens
  const linear = (name: AdapterModule['linear'], count: number) =>
    linearBackward(of, linearPass(of, index, name, count))

  const dactivation = linear('down', further)
  const inner = further * mlp.intermediateSize * s
  const dup = ledger.take('activations', mlp.kind === 'gated' ? 2 * inner : inner)
  if (mlp.kind === 'gated' && !(plain(of) && mlp.activation === 'silu'))
    ledger.pass('activations', inner, inner)
  const dmlpInput = linear('up', further)
  ledger.give(dactivation, dup)
  const dmiddle = normBackward(of, further, hidden, spec.norm.kind)
  let dattention = linear('out', further)
  let dresidual: Held | null = null
  if (rows !== null) {
    const all = ledger.take('activations', tokens * heads * headDim * s)
    ledger.give(dattention)
    dattention = all
    dresidual = ledger.take('activations', tokens * hidden * s)
  }
  const dqkv = attentionBackward(of, layer, lengths)
  if (layer.rope !== null && !plain(of)) {
    const half = (tokens * (heads + kvHeads) * headDim * s) / 2
    ledger.pass('activations', tokens * headDim * s, half, half, half, half, half)
  }
  if (layer.qkNorm) {
    const given = [heads, kvHeads].map((count) => {
      const copied = ledger.take('activations', tokens * count * headDim * s)
      const gradient = normBackward(of, tokens * count, headDim, 'rms')
      ledger.give(copied)
      return gradient
    })
    ledger.give(...given)
  }
  const dnormed = linear('qkv', tokens)
  const dx = normBackward(of, tokens, hidden, spec.norm.kind)
  ledger.give(dmlpInput, dmiddle, dattention, dresidual, dqkv, dnormed)
  return dx
}
