// Allocations of one job of the native core, from its first tensor to its last: native/models/decoder.cpp,
// native/train/pass.cpp, native/losses and native/generate/session.cpp.
import type { TermKind } from '../models/terms.js'
import { blockBackward, blockForward } from './blocks.js'
import { embeddingUpdates, embeddingUpdatesBackward, headUpdates, headUpdatesChunk } from './embeddings.js'
import { type Computed, FLOAT, normBackward, normForward, valueBytes } from './layers.js'
import type { Held } from './ledger.js'

/** Documents of one forward, and how many of their tokens are read by the head. */
export interface Batch {
  lengths: readonly number[]
  labels: number
}

/** The terms of a backward. */
export interface LossShape {
  terms: readonly TermKind[]
  /** The model that a fullKl among the terms compares with. */
  reference: Computed | null
  temperature: number
}

/**
 * The parts of the forward that each kind of term reads, as its file in native/train/terms says: log-probabilities whose gradient
 * is known label by label, so that the logits are made once, or only from all of them, so that they are made twice; the
 * scalar head; the hidden states.
 */
const READS = {
  crossEntropy: 'eachLabel',
  weightedLogProb: 'eachLabel',
  ppoPolicy: 'eachLabel',
  ppoValue: 'scalarHead',
  kl: 'eachLabel',
  fullKl: 'hidden',
  dpo: 'allLabels',
  kto: 'allLabels',
  pairwiseReward: 'scalarHead',
} as const satisfies Record<TermKind, string>

const tokensOf = (lengths: readonly number[]) => lengths.reduce((sum, length) => sum + length, 0)

/** Token ids, positions and read rows, as 64-bit integers. */
function inputs(of: Computed, { lengths, labels }: Batch): Held[] {
  const tokens = tokensOf(lengths)
  return [tokens, tokens, labels].map((count) => of.ledger.take('activations', count * 8))
}

/** Token embeddings [T, D], learned positions added. */
function embed(of: Computed, tokens: number): Held {
  const { ledger, spec } = of
  const width = tokens * spec.hiddenSize * valueBytes(of)
  const x = ledger.take('activations', width)
  embeddingUpdates(of, 'embed', tokens)
  if (spec.learnedPositions === null) return x
  const positions = ledger.take('activations', width)
  embeddingUpdates(of, 'positions', tokens)
  ledger.give(positions)
  return x
}

/** hidden [R, D] of a forward that keeps no trace, and what `caches` is written to. */
function forwardOnly(of: Computed, batch: Batch): Held {
  const { ledger, spec } = of
  let x = embed(of, tokensOf(batch.lengths))
  for (const index of spec.layers.keys()) {
    const last = index === spec.layers.length - 1
    const { y, trace } = blockForward(of, index, batch.lengths, last ? batch.labels : null)
    ledger.give(...trace, x)
    x = y
  }
  const [hidden, ...kept] = normForward(of, batch.labels, spec.hiddenSize, spec.norm)
  ledger.give(x, ...kept)
  return hidden!
}

/** Rows that the head takes at once: chunk_rows of native/device. */
function chunkRows({ machine, spec: { vocabSize } }: Computed): number {
  if (machine.device === 'cpu') return Math.max(16, Math.min(1024, Math.floor(2 ** 23 / vocabSize)))
  return Math.max(256, Math.min(8192, 256 * Math.floor(2 ** 26 / vocabSize / 256)))
}

/** Loss and, with `gradient`, its derivative by the hidden states; returned where there is one. */
function headLoss(of: Computed, rows: number, gradient: boolean, tempered: boolean): Held | null {
  const { ledger, spec } = of
  const s = valueBytes(of)
  const columns = spec.vocabSize
  const dhidden = gradient ? ledger.take('loss', rows * spec.hiddenSize * s) : null
  const step = Math.min(chunkRows(of), rows)
  // Hidden states of half precision are not divided: their logits are, in place.
  const divided = tempered && s === FLOAT ? ledger.take('loss', rows * spec.hiddenSize * s) : null
  const shared = headUpdates(of, rows, gradient)
  const padded = step * Math.ceil(columns / 64) * 64
  const buffers = [padded * FLOAT, ...(gradient && s !== FLOAT ? [padded * s] : [])]
  const held = buffers.map((bytes) => ledger.take('loss', bytes))
  const chunk = step * columns * FLOAT
  const capped = gradient && spec.logitSoftCap ? ledger.take('loss', chunk) : null
  if (capped !== null) ledger.pass('loss', chunk)
  headUpdatesChunk(of, step, gradient)
  ledger.give(...held, capped, divided, ...shared)
  return dhidden
}

function fullKl(of: Computed, reference: Computed, batch: Batch): Held {
  const { ledger, spec } = of
  const compared = forwardOnly(reference, batch)
  const dhidden = ledger.take('loss', batch.labels * spec.hiddenSize * valueBytes(of))
  const step = Math.min(Math.max(16, Math.floor(chunkRows(of) / 2)), batch.labels)
  const chunk = step * spec.vocabSize * FLOAT
  // log p, log q, p, their difference, and three products; with a soft-cap its tanh and one more.
  ledger.pass('loss', ...Array.from({ length: spec.logitSoftCap ? 9 : 7 }, () => chunk))
  ledger.give(compared)
  return dhidden
}

/** backward(): forward with its trace, the losses, and the way back. */
export function countBackward(of: Computed, batch: Batch, loss: LossShape, checkpointing: boolean): void {
  const { ledger, spec } = of
  const s = valueBytes(of)
  const given = inputs(of, batch)
  const rowWidth = batch.labels * spec.hiddenSize * s
  const lastOnly = (index: number) => (index === spec.layers.length - 1 ? batch.labels : null)

  const tokens = tokensOf(batch.lengths)
  let x = embed(of, tokens)
  const blocks: { input: Held; trace: Held[] }[] = []
  for (const index of spec.layers.keys()) {
    const { y, trace } = blockForward(of, index, batch.lengths, lastOnly(index))
    if (checkpointing) ledger.give(...trace.splice(0))
    blocks.push({ input: x, trace })
    x = y
  }
  const last = x
  const [hidden, ...kept] = normForward(of, batch.labels, spec.hiddenSize, spec.norm)
  const tempered = loss.temperature !== 1

  const reads = new Set(loss.terms.map((kind) => READS[kind]))
  const twice = reads.has('allLabels')
  const gradients: (Held | null)[] = []
  if (twice) headLoss(of, batch.labels, false, tempered)
  else if (reads.has('eachLabel')) gradients.push(headLoss(of, batch.labels, true, tempered))
  if (reads.has('hidden')) gradients.push(fullKl(of, loss.reference!, batch))
  if (twice) gradients.push(headLoss(of, batch.labels, true, tempered))
  if (reads.has('scalarHead')) {
    const wide = s === FLOAT ? [] : [rowWidth * 2]
    ledger.pass('loss', ...wide)
    gradients.push(ledger.take('loss', rowWidth))
  }
  // All terms add up to the first one's gradient, which stays until the end.
  const [dhidden, ...others] = gradients
  ledger.give(...others)

  let dx = normBackward(of, batch.labels, spec.hiddenSize, spec.norm)
  for (const index of [...spec.layers.keys()].reverse()) {
    const { input, trace } = blocks[index]!
    if (checkpointing) {
      const again = blockForward(of, index, batch.lengths, lastOnly(index))
      ledger.give(again.y)
      trace.push(...again.trace)
    }
    const next = blockBackward(of, index, batch.lengths, lastOnly(index))
    ledger.give(dx, ...trace, input)
    dx = next
  }
  if (spec.learnedPositions !== null) embeddingUpdatesBackward(of, 'positions', tokens)
  embeddingUpdatesBackward(of, 'embed', tokens)
  ledger.give(dx, last, hidden!, ...kept, dhidden ?? null, ...given)
}

/** logProbs(), values() or scores(): a forward, and the head upon the rows it is read at. */
export function countForward(
  of: Computed,
  batch: Batch,
  head: 'logProbs' | 'score',
  temperature: number,
): void {
  const { ledger, spec } = of
  const s = valueBytes(of)
  const given = inputs(of, batch)
  const hidden = forwardOnly(of, batch)
  const rowWidth = batch.labels * spec.hiddenSize * s
  if (head === 'logProbs') {
    headLoss(of, batch.labels, false, temperature !== 1)
  } else if (s !== FLOAT) {
    ledger.pass('activations', rowWidth * 2)
  }
  ledger.give(hidden, ...given)
}

/** A generation: `rows` prompts of so many tokens, each with so many new ones. */
export interface RolloutShape {
  rows: number
  promptTokens: number
  newTokens: number
}

/** Bytes beside each logit while tokens are drawn on a device, with top-p, which sorts them. */
const DRAWING = 36

/** A session from its prefill to its last token, where no row ends early. */
export function countSession(of: Computed, { rows, promptTokens, newTokens }: RolloutShape): void {
  const { ledger, spec } = of
  const s = valueBytes(of)
  const longest = promptTokens + newTokens
  let capacity = 0
  let caches: Held[] = []
  const reserve = (positions: number) => {
    if (positions <= capacity) return
    capacity = Math.max(positions, Math.min(longest, Math.max(2 * capacity, positions + 32)))
    caches = spec.layers.map(({ kvHeads, headDim }, i) => {
      const grown = ledger.take('cache', 2 * rows * kvHeads * capacity * headDim * s)
      if (caches[i] !== undefined) ledger.give(caches[i])
      return grown
    })
  }
  const logits = () => {
    const shared = headUpdates(of, rows, false)
    const drawing = of.machine.device === 'cuda' ? rows * spec.vocabSize * DRAWING : 0
    ledger.pass('activations', rows * spec.vocabSize * FLOAT, drawing)
    ledger.give(...shared)
  }

  reserve(promptTokens)
  const prompts = { lengths: Array.from({ length: rows }, () => promptTokens), labels: rows }
  const given = inputs(of, prompts)
  const hidden = forwardOnly(of, prompts)
  ledger.give(...given)
  logits()
  ledger.give(hidden)
  // A decoding step is a forward of one token a row; its attention reads the cache where it lies.
  const step = { lengths: Array.from({ length: rows }, () => 1), labels: rows }
  for (let length = promptTokens + 1; length < longest; length++) {
    if (length > capacity) reserve(length)
    else if (length > promptTokens + 1 && length < longest - 1) continue
    const state = forwardOnly(of, step)
    logits()
    ledger.give(state)
  }
  ledger.give(...caches)
}
