import type { DataLoader } from '../data/loader.js'
import type { CausalLM } from '../models/causal-lm.js'

/** Means over all labels of all rows. */
export interface Evaluation {
  loss: number
  /** exp(loss). */
  perplexity: number
  tokenAccuracy: number
  trainTokens: number
}

/** The loss of the model on every batch of the loader, without a gradient; the mean is by token, not by batch. */
export async function evaluate(
  model: CausalLM,
  loader: DataLoader,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<Evaluation> {
  let [lossSum, weight, correct, labels] = [0, 0, 0, 0]
  for await (const batch of loader.epoch(0)) {
    const sums = await model.evaluate(
      batch,
      { kind: 'crossEntropy' },
      { ...(options.signal && { signal: options.signal }) },
    )
    lossSum += sums.lossSum
    weight += sums.count
    correct += sums.correct
    labels += sums.labels
  }
  const loss = lossSum / weight
  return { loss, perplexity: Math.exp(loss), tokenAccuracy: correct / labels, trainTokens: labels }
}
