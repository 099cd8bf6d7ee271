// Allocations of a block and what it keeps: native/models/block.cpp.
import type { LayerSpec } from '../addon/addon.js'
import { attentionBackward, attentionForward } from './attention.js'
import {
  type BlockLinear,
  type Computed,
  fused,
  linearBackward,
  linearForward,
  linearPass,
  normBackward,
  normForward,
  valueBytes,
} from './layers.js'
import type { Held } from './ledger.js'

/** Cosines and sines of the tokens, and the halves of the heads that turn. */
function rotate(of: Computed, layer: LayerSpec, tokens: number): void {
  if (layer.rope === null || fused(of)) return
  const width = (layer.rope.rotaryDim ?? layer.headDim) * valueBytes(of)
  const half = (tokens * (layer.heads + layer.kvHeads) * width) / 2
  of.ledger.pass('activations', tokens * width, half, half, half, half, half)
}

/** Turns a branch's output into what is added to the residual stream; kept tensors go to the trace. */
function contribution(of: Computed, layer: LayerSpec, output: Held, rows: number, trace: Held[]): Held {
  if (!layer.postNorm) return output
  const [y, ...kept] = normForward(of, rows, of.spec.hiddenSize, of.spec.norm)
  trace.push(output, ...kept)
  return y!
}

/** The gradient of the branch's output where it is a tensor of its own. */
function contributionBackward(of: Computed, layer: LayerSpec, rows: number): Held | null {
  const { ledger, spec } = of
  const scaled =
    layer.residualMultiplier === undefined
      ? null
      : ledger.take('activations', rows * spec.hiddenSize * valueBytes(of))
  if (!layer.postNorm) return scaled
  const dy = normBackward(of, rows, spec.hiddenSize, spec.norm)
  ledger.give(scaled)
  return dy
}

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
  const linear = (name: BlockLinear, count: number) => linearForward(of, linearPass(of, index, name, count))

  const { preNorm = true } = layer
  const headNorm = { ...spec.norm, kind: 'rms' as const }
  const trace = preNorm ? normForward(of, tokens, hidden, spec.norm) : []
  trace.push(linear('qkv', tokens))
  if (layer.qkNorm) {
    for (const count of [heads, kvHeads]) {
      trace.push(ledger.take('activations', tokens * count * headDim * s))
    }
    for (const count of [heads, kvHeads]) {
      const [y, ...kept] = normForward(of, tokens * count, headDim, headNorm)
      ledger.give(y!)
      trace.push(...kept)
    }
  }
  rotate(of, layer, tokens)
  const { out, lse } = attentionForward(of, layer, lengths)
  trace.push(out, ...lse)
  if (rows !== null) trace.push(ledger.take('activations', rows * heads * headDim * s))
  const middle = contribution(of, layer, linear('out', further), further, trace)
  if (rows !== null) ledger.pass('activations', rows * hidden * s)
  trace.push(middle)
  if (preNorm) trace.push(...normForward(of, further, hidden, spec.norm))
  trace.push(linear('up', further))
  const inner = further * mlp.intermediateSize * s
  const activated =
    mlp.kind === 'gated' && !(fused(of) && mlp.activation === 'silu')
      ? ledger.take('activations', inner)
      : null
  trace.push(ledger.take('activations', inner))
  ledger.give(activated)
  return { y: contribution(of, layer, linear('down', further), further, trace), trace }
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
  const linear = (name: BlockLinear, count: number) => linearBackward(of, linearPass(of, index, name, count))

  const { preNorm = true } = layer
  const headNorm = { ...spec.norm, kind: 'rms' as const }
  const dmlpOutput = contributionBackward(of, layer, further)
  const dactivation = linear('down', further)
  const inner = further * mlp.intermediateSize * s
  const dup = ledger.take('activations', mlp.kind === 'gated' ? 2 * inner : inner)
  if (mlp.kind === 'gated' && !(fused(of) && mlp.activation === 'silu'))
    ledger.pass('activations', inner, inner)
  const dmlpInput = linear('up', further)
  ledger.give(dactivation, dup)
  const dmiddle = preNorm ? normBackward(of, further, hidden, spec.norm) : null
  const doutput = contributionBackward(of, layer, further)
  let dattention = linear('out', further)
  let dresidual: Held | null = null
  if (rows !== null) {
    const all = ledger.take('activations', tokens * heads * headDim * s)
    ledger.give(dattention)
    dattention = all
    dresidual = ledger.take('activations', tokens * hidden * s)
  }
  const dqkv = attentionBackward(of, layer, lengths)
  rotate(of, layer, tokens)
  if (layer.qkNorm) {
    const given = [heads, kvHeads].map((count) => {
      const copied = ledger.take('activations', tokens * count * headDim * s)
      const gradient = normBackward(of, tokens * count, headDim, headNorm)
      ledger.give(copied)
      return gradient
    })
    ledger.give(...given)
  }
  const dnormed = linear('qkv', tokens)
  const dx = preNorm ? normBackward(of, tokens, hidden, spec.norm) : dnormed
  ledger.give(dmlpOutput, dmlpInput, dmiddle, doutput, dattention, dresidual, dqkv)
  if (preNorm) ledger.give(dnormed)
  return dx
}
