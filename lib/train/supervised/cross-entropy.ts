import type { LoaderBatch } from '../../data/index.js'
import type { CausalLM } from '../../models/causal-lm.js'
import type { EvaluationEvent, StepEvent } from '../run/events.js'
import { ratio } from '../run/sums.js'
import type { Objective } from './objective.js'

/** Cross-entropy over the labels of a batch, in nats: the objective of `sft` and `pretrain`. */
export function crossEntropyObjective(model: CausalLM): Objective<LoaderBatch, StepEvent, EvaluationEvent> {
  const term = { kind: 'crossEntropy' as const }
  return {
    async backward(batch, options) {
      return await model.backward(batch, term, options)
    },
    async evaluate(batch, signal) {
      return await model.evaluate(batch, term, { signal })
    },
    stepMetrics: (sums) => ({
      trainTokens: sums.labels ?? 0,
      tokenAccuracy: ratio(sums.correct, sums.labels),
      entropy: ratio(sums.entropySum, sums.labels),
    }),
    evaluationMetrics: (sums) => ({
      perplexity: Math.exp(ratio(sums.lossSum, sums.count)),
      tokenAccuracy: ratio(sums.correct, sums.labels),
      trainTokens: sums.labels ?? 0,
    }),
  }
}
