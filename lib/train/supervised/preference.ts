import { isPredicted } from '../../data/index.js'
import type { PreferenceBatch } from '../../data/loaders/preferences.js'
import type { CausalLM } from '../../models/causal-lm.js'
import type { LossTerm } from '../../models/terms.js'
import type { PairLossName } from '../../options/pair-losses.js'
import type { DpoEvaluationEvent, DpoMetrics, DpoStepEvent } from '../run/events.js'
import { ratio, type Sums } from '../run/sums.js'
import type { Objective } from './objective.js'
import type { ReferenceCache } from './reference-cache.js'

/** A pair loss, plus the cross-entropy of the chosen responses with `sftCoef`. */
export function pairObjective(
  model: CausalLM,
  reference: ReferenceCache | null,
  options: {
    loss: PairLossName
    beta: number
    labelSmoothing: number
    gamma: number
    lambda: number
    sftCoef: number
  },
): Objective<PreferenceBatch, DpoStepEvent, DpoEvaluationEvent> {
  const { sftCoef, ...loss } = options
  /** Labels of the chosen responses of the step: the normalizer of their cross-entropy. */
  let sftTokens = 0
  const termsOf = async (batch: PreferenceBatch, coefficient: number, signal: AbortSignal | undefined) => {
    const terms: LossTerm[] = [
      {
        kind: 'dpo',
        ...loss,
        pairs: batch.pairs,
        weights: batch.pairWeights,
        ...(reference && { referenceSums: await reference.sums(batch, signal) }),
      },
    ]
    if (sftCoef > 0) terms.push({ kind: 'weightedLogProb', coefficient, weights: chosenWeights(batch) })
    return terms
  }
  const metrics = (sums: Sums): DpoMetrics => ({
    accuracy: ratio(sums.correct, sums.count),
    margin: ratio((sums.chosenReward ?? 0) - (sums.rejectedReward ?? 0), sums.count),
    chosenReward: ratio(sums.chosenReward, sums.count),
    rejectedReward: ratio(sums.rejectedReward, sums.count),
    chosenLogProb: ratio(sums.chosenLogProb, sums.count),
    rejectedLogProb: ratio(sums.rejectedLogProb, sums.count),
    chosenLength: ratio(sums.chosenTokens, sums.count),
  })
  return {
    async prepare(batches) {
      sftTokens = batches.reduce((sum, batch) => sum + total(chosenWeights(batch)), 0)
    },
    async backward(batch, given) {
      // The terms of one backward share a normalizer, but cross-entropy has its own.
      const coefficient = (sftCoef * given.normalizer) / Math.max(1, sftTokens)
      const terms = await termsOf(batch, coefficient, given.signal)
      const [pairs, sft] = await model.backward(batch, terms, given)
      return {
        ...pairs!,
        lossSum: pairs!.lossSum + coefficient * (sft?.lossSum ?? 0),
        chosenTokens: chosenTokens(batch),
      }
    },
    async evaluate(batch, signal) {
      const terms = await termsOf(batch, sftCoef, signal)
      const [pairs, sft] = await model.evaluate(batch, terms, { signal })
      return {
        ...pairs!,
        chosenTokens: chosenTokens(batch),
        ...(sft && { sftLoss: sft.lossSum, sftTokens: total(chosenWeights(batch)) }),
      }
    },
    evaluationLoss: (sums) => ratio(sums.lossSum, sums.count) + sftCoef * ratio(sums.sftLoss, sums.sftTokens),
    stepMetrics: metrics,
    evaluationMetrics: metrics,
  }
}

const total = (weights: Float64Array) => weights.reduce((sum, weight) => sum + weight, 0)

/** 1 at the labels of responses that are chosen in a pair, once each; 0 elsewhere. */
function chosenWeights({ offsets, labels, pairs }: PreferenceBatch): Float64Array {
  const weights = new Float64Array(labels.length)
  for (let p = 0; p < pairs.length; p += 2) {
    const document = pairs[p]!
    for (let t = offsets[document]!; t < offsets[document + 1]!; t++)
      if (isPredicted(labels, t, offsets[document]!)) weights[t] = 1
  }
  return weights
}

/** Labels of the chosen responses, with the weights of their pairs. */
function chosenTokens({ offsets, labels, pairs, pairWeights }: PreferenceBatch): number {
  let sum = 0
  for (const [p, weight] of pairWeights.entries()) {
    const document = pairs[2 * p]!
    for (let t = offsets[document]!; t < offsets[document + 1]!; t++)
      if (isPredicted(labels, t, offsets[document]!)) sum += weight
  }
  return sum
}
