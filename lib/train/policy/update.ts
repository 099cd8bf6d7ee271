import { type Reduction, reductionWeights } from '../../losses/group.js'
import type { Model } from '../../models/model.js'
import type { LossTerm } from '../../models/terms.js'
import type { AdamW } from '../../optim/adamw.js'
import { permutation, STREAM } from '../../random.js'
import { type PackedResponses, packResponses, scatter } from '../../rollout/responses.js'
import { chunksByTokens } from '../../rollout/rewards.js'
import type { Response } from '../../rollout/rollout.js'
import { addSums, type Sums } from '../run/sums.js'

/** One model that is updated from a rollout. */
export interface Learner {
  model: Model
  optimizer: AdamW
  learningRate: number
  /** Loss terms for some of the responses; `of` slices a vector over all tokens to theirs. */
  terms(of: (values: Float64Array) => Float64Array): LossTerm[]
}

export interface UpdateOptions {
  epochs: number
  miniBatches: number
  batchTokens: number
  temperature: number
  activationCheckpointing: boolean
  maxGradNorm: number
  /** Determines the order of the responses, with the iteration and the epoch. */
  seed: number
  iteration: number
  /** Normalization of the token losses; `sequence`: mean over responses with one value each. */
  reduction: Reduction | 'sequence'
  maxNewTokens: number
  /** Whether each response counts, [B]; others have weight 0. */
  counted: readonly boolean[]
  /** Ends the passes when the mean of half the squared log-ratio of a mini-batch exceeds it. */
  targetKl?: number | undefined
  signal?: AbortSignal | undefined
}

/** Totals of the updates of one learner. */
export interface Learned {
  /** Sums of each of its terms by name, before normalization. */
  sums: Sums[]
  steps: number
  /** Mean over the steps; so is `gradNorm`. */
  loss: number
  gradNorm: number
  /** Why the last step was not applied; null where all were. */
  failed: 'nonFiniteLoss' | 'nonFiniteGradient' | null
}

/** The responses, and the start of each in vectors over all tokens, [B + 1]. */
type Rollout = { responses: readonly Response[]; offsets: Int32Array }

/**
 * Runs `epochs` passes over a rollout; each mini-batch is one optimizer step of every learner. The loss of a mini-batch is
 * divided by its own normalizer, however its forwards are batched. A loss or gradient that is not finite ends the updates
 * of all learners and changes nothing.
 */
export async function updateFrom(
  learners: readonly Learner[],
  rollout: Rollout,
  options: UpdateOptions,
): Promise<Learned[]> {
  const learned: Learned[] = learners.map(() => ({ sums: [], steps: 0, loss: 0, gradNorm: 0, failed: null }))
  for (const miniBatch of miniBatches(rollout.responses, options)) {
    const approxKl = await stepOn(miniBatch, rollout, learners, learned, options)
    if (approxKl === null || (options.targetKl !== undefined && approxKl > options.targetKl)) break
  }
  for (const item of learned) {
    item.loss /= Math.max(1, item.steps)
    item.gradNorm /= Math.max(1, item.steps)
  }
  return learned
}

interface MiniBatch {
  /** Indices of its responses. */
  places: number[]
  /** Weight of the tokens of each response. */
  weights: ReadonlyMap<number, number>
  normalizer: number
}

/** Yields the mini-batches of all passes, shuffled in each pass; skips those in which no response counts. */
function* miniBatches(responses: readonly Response[], options: UpdateOptions): Generator<MiniBatch, void> {
  const { epochs, miniBatches: count, iteration, reduction, counted } = options
  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = permutation(responses.length, options.seed, STREAM.update + iteration * 1000 + epoch)
    const cut = (at: number) => Math.floor((at * responses.length) / count)
    for (let mini = 0; mini < count; mini++) {
      const places = Array.from(order.subarray(cut(mini), cut(mini + 1)))
      const lengths = places.map((place) => (counted[place] ? responses[place]!.tokenIds.length : 0))
      if (lengths.every((length) => length === 0)) continue
      const { weights, normalizer } =
        reduction === 'sequence'
          ? { weights: lengths.map(Math.sign), normalizer: lengths.filter((length) => length > 0).length }
          : reductionWeights(reduction, lengths, options.maxNewTokens)
      const weightOf = (i: number) => (lengths[i] === 0 ? 0 : weights[i]!)
      yield { places, weights: new Map(places.map((place, i) => [place, weightOf(i)])), normalizer }
    }
  }
}

/**
 * Performs one optimizer step of every learner, after the gradients of all. Returns the largest mean of half the squared
 * log-ratio, or null if a loss or gradient was not finite.
 */
async function stepOn(
  miniBatch: MiniBatch,
  rollout: Rollout,
  learners: readonly Learner[],
  learned: readonly Learned[],
  options: UpdateOptions,
): Promise<number | null> {
  const steps: Gradients[] = []
  for (const [i, learner] of learners.entries()) {
    const step = await gradientsOf(learner, miniBatch, rollout, options)
    const result = learned[i]!
    result.sums = step.sums.map((sums, k) => addSums(result.sums[k] ?? null, sums))
    if (!Number.isFinite(step.loss)) {
      result.failed = 'nonFiniteLoss'
      for (const { optimizer } of learners) await optimizer.zeroGrad()
      return null
    }
    steps.push(step)
  }
  let approxKl = 0
  for (const [i, { optimizer, learningRate }] of learners.entries()) {
    const { sums, loss } = steps[i]!
    const result = learned[i]!
    const { maxGradNorm } = options
    const { gradNorm, applied } = await optimizer.step({ learningRate, maxGradNorm })
    if (!applied) {
      result.failed = 'nonFiniteGradient'
      return null
    }
    result.steps++
    result.loss += loss
    result.gradNorm += gradNorm
    approxKl = Math.max(approxKl, (sums[0]?.approxKl ?? 0) / Math.max(1e-12, sums[0]?.count ?? 1))
  }
  return approxKl
}

interface Gradients {
  sums: Sums[]
  loss: number
}

/** Accumulates the gradients of one mini-batch; stops at a loss that is not finite. */
async function gradientsOf(
  learner: Learner,
  { places, weights, normalizer }: MiniBatch,
  { responses, offsets }: Rollout,
  options: UpdateOptions,
): Promise<Gradients> {
  const { model, optimizer } = learner
  const { temperature, activationCheckpointing: checkpointing } = options
  await optimizer.zeroGrad()
  let sums: Sums[] = []
  let loss = 0
  const taken = places.map((place) => responses[place]!)
  for (const [from, to] of chunksByTokens(taken, options.batchTokens)) {
    const packed = packResponses(responses, places.slice(from, to))
    const terms = learner.terms((values) => scatter(packed, values, offsets))
    const results = await model.backward(weighted(packed, weights), terms, {
      normalizer,
      temperature,
      checkpointing,
      signal: options.signal,
    })
    sums = results.map((result, k) => addSums(sums[k] ?? null, result))
    for (const [k, result] of results.entries())
      loss += ((terms[k]!.coefficient ?? 1) * result.lossSum) / normalizer
    if (!Number.isFinite(loss)) break
  }
  return { sums, loss }
}

/** The batch with token weights, unless all are 1. */
function weighted(packed: PackedResponses, weightOf: ReadonlyMap<number, number>): PackedResponses['batch'] {
  const { batch, responses } = packed
  if (responses.every((place) => weightOf.get(place) === 1)) return batch
  const weights = new Float32Array(batch.inputIds.length)
  for (const [d, place] of responses.entries())
    weights.fill(weightOf.get(place) ?? 0, batch.offsets[d], batch.offsets[d + 1])
  return { ...batch, weights }
}
