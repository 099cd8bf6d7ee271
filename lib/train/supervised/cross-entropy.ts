import type { LoaderBatch } from '../../data/index.js'
import { toPacked } from '../../data/index.js'
import { type CausalLM, roleOf } from '../../models/causal-lm.js'
import type { EvaluationEvent, StepEvent } from '../run/events.js'
import { mean, type Objective } from './objective.js'

/** Cross-entropy over the labels of a batch, in nats: what `sft` and `pretrain` train for. */
export function crossEntropyObjective(model: CausalLM): Objective<LoaderBatch, StepEvent, EvaluationEvent> {
  const term = { kind: 'crossEntropy' as const }
  return {
    async backward(batch, { signal, ...options }) {
      const [sums] = await roleOf(model).backward(toPacked(batch), [term], options, signal)
      return sums!
    },
    async evaluate(batch, signal) {
      const [sums] = await roleOf(model).evaluate(toPacked(batch), [term], {}, signal)
      return sums!
    },
    stepMetrics: (sums) => ({
      trainTokens: sums.labels ?? 0,
      tokenAccuracy: mean(sums.correct, sums.labels),
      entropy: mean(sums.entropy, sums.labels),
    }),
    evaluationMetrics: (sums) => ({
      perplexity: Math.exp(mean(sums.loss, sums.count)),
      tokenAccuracy: mean(sums.correct, sums.labels),
      trainTokens: sums.labels ?? 0,
    }),
  }
}
