import { RECIPES } from '../train/recipes.js'
import { countMemory, type MemoryCount } from './count.js'
import { countedRun, type RunShape, type Sizes, sizesOf } from './runs.js'

export interface MemoryEstimate extends MemoryCount {
  sizes: Sizes
}

/** Memory of a run with the batches that its options ask for, or with `documents` in each backward. */
export function estimateMemory(run: RunShape, documents?: number): MemoryEstimate {
  const sizes = sizesOf(run, documents)
  return { ...countMemory(countedRun(run, sizes)), sizes }
}

/** The largest batch of one backward that fits, in documents and tokens; null where not even one document does. */
export function largestBatch(run: RunShape, memory: number): { documents: number; tokens: number } | null {
  // Responses to a prompt are compared together: a batch of pairs has an even number of documents.
  const unit = run.recipe === 'reward' || (run.recipe === 'dpo' && run.options.loss !== 'kto') ? 2 : 1
  const fits = (units: number) => estimateMemory(run, units * unit).peak <= memory
  if (!fits(1)) return null
  const { tokens, answers } = sizesOf(run)
  // A batch of a rollout has at most its responses; elsewhere a search up to a million tokens is enough.
  const most = RECIPES[run.recipe].rollout ? answers : Math.max(1, Math.floor(2 ** 20 / tokens / unit))
  let [low, high] = [1, most]
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (fits(middle)) low = middle
    else high = middle - 1
  }
  return { documents: low * unit, tokens: low * unit * tokens }
}
