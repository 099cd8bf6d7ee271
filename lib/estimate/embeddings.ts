// Allocations of the embedding and the head where an adapter changes them: native/nn/embedding.cpp and head.cpp.
import { type Computed, FLOAT, updatesOf, valueBytes } from './layers.js'
import type { Held } from './ledger.js'

const modulesOf = (of: Computed, linear: 'embed' | 'positions' | 'head') =>
  (of.adapter?.modules ?? []).filter((module) => module.linear === linear)

/** Updates of the rows of an embedding that T tokens look up. */
export function embeddingUpdates(of: Computed, linear: 'embed' | 'positions', tokens: number): void {
  const { ledger, spec } = of
  for (const { rows, rank, bytes } of updatesOf(of, modulesOf(of, linear), spec.vocabSize)) {
    const wide = valueBytes(of) === bytes ? [] : [tokens * spec.hiddenSize * bytes]
    const low = tokens * rank * bytes
    if (of.adapter!.dora) {
      ledger.pass('activations', low, rows * spec.hiddenSize * FLOAT)
      ledger.pass('activations', low, tokens * spec.hiddenSize * FLOAT, ...wide)
    } else ledger.pass('activations', low, ...wide)
  }
}

/** Gradients of those updates. */
export function embeddingUpdatesBackward(of: Computed, linear: 'embed' | 'positions', tokens: number): void {
  const { ledger, spec } = of
  for (const { rows, rank, bytes } of updatesOf(of, modulesOf(of, linear), spec.vocabSize)) {
    const width = tokens * spec.hiddenSize * bytes
    const wide = valueBytes(of) === bytes ? [] : [width]
    const low = tokens * rank * bytes
    if (of.adapter!.dora) {
      ledger.pass('activations', low, ...wide, rows * spec.hiddenSize * FLOAT)
      ledger.pass('activations', low, ...wide, width, width)
    }
    ledger.pass('activations', low, ...wide, ...(of.adapter!.dora ? [width] : []), low)
  }
}

/** What the chunks of a pass of the head share: [R, r] of each update, with a gradient twice. */
export function headUpdates(of: Computed, rows: number, gradient: boolean): Held[] {
  const { ledger, spec } = of
  return updatesOf(of, modulesOf(of, 'head'), spec.vocabSize).flatMap(({ rank, bytes }) => {
    const wide = valueBytes(of) === bytes ? [] : [rows * spec.hiddenSize * bytes]
    const low = rows * rank * bytes
    if (of.adapter!.dora) ledger.pass('loss', spec.vocabSize * spec.hiddenSize * FLOAT)
    return [...wide, low, ...(gradient ? [low] : [])].map((size) => ledger.take('loss', size))
  })
}

/** Temporaries of one chunk of `rows` in the head's updates. */
export function headUpdatesChunk(of: Computed, rows: number, gradient: boolean): void {
  const { ledger, spec } = of
  const chunk = rows * spec.vocabSize * FLOAT
  for (const { rank, bytes } of updatesOf(of, modulesOf(of, 'head'), spec.vocabSize)) {
    if (!gradient) continue
    if (of.adapter!.dora) ledger.pass('loss', chunk, chunk, chunk)
    ledger.pass('loss', rows * rank * bytes, ...(valueBytes(of) === bytes ? [] : [chunk]))
  }
}
