import { type Reduction, reductionWeights } from '../../losses/group.js'
import type { CausalLM } from '../../models/causal-lm.js'
import type { Model } from '../../models/model.js'
import type { LossTerm } from '../../models/terms.js'
import type { AdamW } from '../../optim/adamw.js'
import { permutation } from '../../random.js'
import { type PackedResponses, packResponses, spread } from '../../rollout/experience.js'
import { chunksByTokens } from '../../rollout/rewards.js'
import type { Response } from '../../rollout/rollout.js'
import { addSums, type Sums } from '../supervised/objective.js'

/** One model that learns from a rollout: its loss terms for some of the answers. */
export interface Learner {
  model: Model
  optimizer: AdamW
  learningRate: number
  terms(packed: PackedResponses, of: (values: Float64Array) => Float64Array): LossTerm[]
}

export interface UpdateOptions {
  epochs: number
  miniBatches: number
  batchTokens: number
  temperature: number
  activationCheckpointing: boolean
  maxGradNorm: number
  /** Decides the order, with the epoch. */
  seed: number
  stream: number
  /** How tokens become one loss; `sequence`: the mean over answers of one value each. */
  reduction: Reduction | 'sequence'
  maxNewTokens: number
  /** Answers that count; others get no weight. */
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

/**
 * Passes over the answers of a rollout, in mini-batches that each are one optimizer step of every learner. The loss of a
 * mini-batch is normalised by its own count, whatever batches its forwards are made in. A loss of one learner that is not
 * finite ends the updates of all, and so does a gradient: it changes nothing.
 */
export async function updateFrom(
  learners: readonly Learner[],
  responses: readonly Response[],
  offsets: Int32Array,
  options: UpdateOptions,
): Promise<Learned[]> {
  const learned: Learned[] = learners.map(() => ({ sums: [], steps: 0, loss: 0, gradNorm: 0, failed: null }))
  const finish = () => {
    for (const item of learned) {
      item.loss /= Math.max(1, item.steps)
      item.gradNorm /= Math.max(1, item.steps)
    }
    return learned
  }
  for (let epoch = 0; epoch < options.epochs; epoch++) {
    const order = permutation(responses.length, options.seed, options.stream + epoch)
    for (let mini = 0; mini < options.miniBatches; mini++) {
      const places = Array.from(
        order.subarray(
          Math.floor((mini * responses.length) / options.miniBatches),
          Math.floor(((mini + 1) * responses.length) / options.miniBatches),
        ),
      )
      const lengths = places.map((place) => (options.counted[place] ? responses[place]!.tokenIds.length : 0))
      if (lengths.every((length) => length === 0)) continue
      const { weights, normalizer } =
        options.reduction === 'sequence'
          ? { weights: lengths.map(Math.sign), normalizer: lengths.filter((length) => length > 0).length }
          : reductionWeights(options.reduction, lengths, options.maxNewTokens)
      const weightOf = new Map(places.map((place, i) => [place, lengths[i] === 0 ? 0 : weights[i]!]))
      const steps: Gradients[] = []
      for (const [i, learner] of learners.entries()) {
        const step = await gradientsOf(learner, responses, offsets, places, weightOf, normalizer, options)
        const result = learned[i]!
        result.sums = step.sums.map((sums, k) => addSums(result.sums[k] ?? null, sums))
        if (Number.isFinite(step.loss)) {
          steps.push(step)
          continue
        }
        result.failed = 'nonFiniteLoss'
        for (const { optimizer } of learners) await optimizer.zeroGrad()
        return finish()
      }
      let approxKl = 0
      for (const [i, { optimizer, learningRate }] of learners.entries()) {
        const { sums, loss } = steps[i]!
        const result = learned[i]!
        const { maxGradNorm } = options
        const { gradNorm, applied } = await optimizer.step({ learningRate, maxGradNorm })
        if (!applied) {
          result.failed = 'nonFiniteGradient'
          return finish()
        }
        result.steps++
        result.loss += loss
        result.gradNorm += gradNorm
        approxKl = Math.max(approxKl, (sums[0]?.approxKl ?? 0) / Math.max(1e-12, sums[0]?.count ?? 1))
      }
      if (options.targetKl !== undefined && approxKl > options.targetKl) return finish()
    }
  }
  return finish()
}

interface Gradients {
  sums: Sums[]
  loss: number
}

/** Adds up the gradients of one mini-batch; ends where the loss is not finite. */
async function gradientsOf(
  { model, optimizer, terms: termsOf }: Learner,
  responses: readonly Response[],
  offsets: Int32Array,
  places: readonly number[],
  weightOf: ReadonlyMap<number, number>,
  normalizer: number,
  options: UpdateOptions,
): Promise<Gradients> {
  await optimizer.zeroGrad()
  let sums: Sums[] = []
  let loss = 0
  const chosen = places.map((place) => responses[place]!)
  for (const [from, to] of chunksByTokens(chosen, options.batchTokens)) {
    const packed = packResponses(responses, places.slice(from, to))
    const uniform = packed.responses.every((place) => weightOf.get(place) === 1)
    const batch = uniform ? packed.batch : { ...packed.batch, weights: tokenWeights(packed, weightOf) }
    const terms = termsOf(packed, (values) => spread(packed, values, offsets))
    const results = await model.backward(batch, terms, {
      normalizer,
      temperature: options.temperature,
      checkpointing: options.activationCheckpointing,
      signal: options.signal,
    })
    sums = results.map((result, k) => addSums(sums[k] ?? null, result))
    for (const [k, result] of results.entries())
      loss += ((terms[k]!.coefficient ?? 1) * result.lossSum) / normalizer
    if (!Number.isFinite(loss)) break
  }
  return { sums, loss }
}

function tokenWeights(packed: PackedResponses, weightOf: ReadonlyMap<number, number>): Float32Array {
  const weights = new Float32Array(packed.batch.inputIds.length)
  const { offsets } = packed.batch
  for (const [d, place] of packed.responses.entries())
    weights.fill(weightOf.get(place) ?? 0, offsets[d], offsets[d + 1])
  return weights
}

/** The loss terms of a policy that is kept near its reference in the loss. */
export interface PolicyTerms {
  oldLogProbs: Float64Array
  advantages: Float64Array
  clipLow: number
  clipHigh: number
  dualClip?: number | undefined
  entropyCoef?: number
  sequence?: boolean
  kl:
    | null
    | { coefficient: number; estimator: 'k2' | 'k3'; referenceLogProbs: Float64Array }
    | { coefficient: number; estimator: 'full'; direction: 'forward' | 'reverse'; reference: CausalLM }
}

/** The clipped policy loss, and the KL penalty where it is part of the loss; k3 is multiplied by the ratio. */
export function policyTerms(policy: PolicyTerms, of: (values: Float64Array) => Float64Array): LossTerm[] {
  const oldLogProbs = of(policy.oldLogProbs)
  const terms: LossTerm[] = [
    {
      kind: 'ppoPolicy',
      oldLogProbs,
      advantages: of(policy.advantages),
      clipLow: policy.clipLow,
      clipHigh: policy.clipHigh,
      ...(policy.dualClip !== undefined && { dualClip: policy.dualClip }),
      ...(policy.sequence && { sequence: true }),
      entropyCoefficient: policy.entropyCoef ?? 0,
    },
  ]
  const { kl } = policy
  if (kl === null) return terms
  if (kl.estimator === 'full') {
    const { coefficient, direction, reference } = kl
    terms.push({ kind: 'fullKl', coefficient, direction, reference })
  } else {
    const { coefficient, estimator } = kl
    terms.push({
      kind: 'kl',
      coefficient,
      estimator,
      referenceLogProbs: of(kl.referenceLogProbs),
      ...(estimator === 'k3' && { oldLogProbs }),
    })
  }
  return terms
}
