import { type Reduction, reductionWeights } from '../../losses/group.js'
import type { Model } from '../../models/model.js'
import type { LossTerm } from '../../models/terms.js'
import type { AdamW } from '../../optim/adamw.js'
import { permutation, STREAM } from '../../random.js'
import { type PackedResponses, packResponses, scatter } from '../../rollout/responses.js'
import { chunksByTokens } from '../../rollout/rewards.js'
import type { Response } from '../../rollout/rollout.js'
import { addSums, type Sums } from '../run/sums.js'

/** One model that learns from a rollout. */
export interface Learner {
  model: Model
  optimizer: AdamW
  learningRate: number
  /** Its loss terms for some of the responses; `of` cuts a vector over all tokens to theirs. */
  terms(of: (values: Float64Array) => Float64Array): LossTerm[]
}

export interface UpdateOptions {
  epochs: number
  miniBatches: number
  batchTokens: number
  temperature: number
  activationCheckpointing: boolean
  maxGradNorm: number
  /** Decides the order of the responses, with the iteration and the epoch. */
  seed: number
  iteration: number
  /** How tokens become one loss; `sequence`: the mean over responses of one value each. */
  reduction: Reduction | 'sequence'
  maxNewTokens: number
  /** Responses that count; others get no weight. */
  counted: readonly boolean[]
  /** Ends the passes when the mean of half the squared log-ratio in one mini-batch is above it. */
  targetKl?: number | undefined
  signal?: AbortSignal | undefined
}

/** What the updates of one learner added up to. */
export interface Learned {
  /** Of its first term and of all further ones, each by name; nothing divided. */
  sums: Sums[]
  steps: number
  /** Mean over the steps. */
  loss: number
  gradNorm: number
  /** Why the last step was not applied; null where all were. */
  failed: 'nonFiniteLoss' | 'nonFiniteGradient' | null
}

/** The responses that are learnt from, and where the tokens of each begin in vectors over all tokens, [B + 1]. */
type Rollout = { responses: readonly Response[]; offsets: Int32Array }

/**
 * Runs `epochs` passes over a rollout; each mini-batch is one optimizer step of every learner. The loss of a mini-batch is
 * normalized by its own count, whatever batches its forwards are made in. A loss or gradient that is not finite ends the
 * updates of all learners and changes nothing.
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
  /** Of its responses among all. */
  places: number[]
  /** Weight of the tokens of each of them. */
  weights: ReadonlyMap<number, number>
  normalizer: number
}

/** The mini-batches of all passes, each pass in an order of its own; those in which no response counts are left out. */
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
 * One optimizer step of every learner, after the gradients of all. Gives the largest mean of half the squared log-ratio,
 * or null where a loss or gradient was not finite.
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

/** Adds up the gradients of one mini-batch; ends where the loss is not finite. */
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
  const chosen = places.map((place) => responses[place]!)
  for (const [from, to] of chunksByTokens(chosen, options.batchTokens)) {
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

/** The batch with the weight of each response on its tokens, where that is not 1 for all. */
function weighted(packed: PackedResponses, weightOf: ReadonlyMap<number, number>): PackedResponses['batch'] {
  const { batch, responses } = packed
  if (responses.every((place) => weightOf.get(place) === 1)) return batch
  const weights = new Float32Array(batch.inputIds.length)
  for (const [d, place] of responses.entries())
    weights.fill(weightOf.get(place) ?? 0, batch.offsets[d], batch.offsets[d + 1])
  return { ...batch, weights }
}
