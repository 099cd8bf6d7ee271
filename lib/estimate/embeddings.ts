// Allocations of the embedding and the head where an adapter changes them: native/nn/embedding.cpp and head.cpp.
import { type Computed, FLOAT, updatesOf, valueBytes } from './layers.js'
import type { Held } from './ledger.js'

const modulesOf = (of: Computed, linear: 'embed' | 'positions' | 'head') =>
  (of.adapter?.modules ?? []).filter((module) => module.linear === linear)

/** Whether the adapter trains a copy of a parameter. */
export const trainsCopy = (of: Computed, parameter: string) =>
  of.adapter?.copies.some(({ parameters, trainable }) => trainable && parameters.includes(parameter)) === true

/** Updates of the rows of an embedding that T tokens look up. */
export function embeddingUpdates(of: Computed, linear: 'embed' | 'positions', tokens: number): void {
  const { ledger, spec } = of
  const wide = valueBytes(of) === FLOAT ? [] : [tokens * spec.hiddenSize * FLOAT]
  for (const { rows, rank } of updatesOf(modulesOf(of, linear), spec.vocabSize)) {
    const low = tokens * rank * FLOAT
    if (of.adapter!.dora) {
      ledger.pass('activations', low, rows * spec.hiddenSize * FLOAT)
      ledger.pass('activations', low, tokens * spec.hiddenSize * FLOAT, ...wide)
    } else ledger.pass('activations', low, ...wide)
  }
}

/** Gradients of those updates. */
export function embeddingUpdatesBackward(of: Computed, linear: 'embed' | 'positions', tokens: number): void {
  const { ledger, spec } = of
  const width = tokens * spec.hiddenSize * FLOAT
  const wide = valueBytes(of) === FLOAT ? [] : [width]
  for (const { rows, rank } of updatesOf(modulesOf(of, linear), spec.vocabSize)) {
    const low = tokens * rank * FLOAT
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
  const wide = valueBytes(of) === FLOAT ? [] : [rows * spec.hiddenSize * FLOAT]
  return updatesOf(modulesOf(of, 'head'), spec.vocabSize).flatMap(({ rank }) => {
    const low = rows * rank * FLOAT
    if (of.adapter!.dora) ledger.pass('loss', spec.vocabSize * spec.hiddenSize * FLOAT)
    return [...wide, low, ...(gradient ? [low] : [])].map((bytes) => ledger.take('loss', bytes))
  })
}

/** Temporaries of one chunk of `rows` in the head's updates. */
export function headUpdatesChunk(of: Computed, rows: number, gradient: boolean): void {
  const { ledger, spec } = of
  const chunk = rows * spec.vocabSize * FLOAT
  const half = valueBytes(of) !== FLOAT
  for (const { rank } of updatesOf(modulesOf(of, 'head'), spec.vocabSize)) {
    if (half) ledger.pass('loss', chunk)
    if (!gradient) continue
    if (of.adapter!.dora) ledger.pass('loss', chunk, chunk, chunk)
    ledger.pass('loss', rows * rank * FLOAT, ...(half ? [chunk] : []))
  }
}
