import type { Loader } from '../../data/index.js'
import type { TrainBatch } from './objective.js'
import type { Cursor, StepData } from './step.js'

/**
 * Yields the data of optimizer steps from `from` on, over endless epochs: `accumulation` batches per step, fewer in the
 * last of an epoch, so that no step mixes two epochs. The order of an epoch depends only on the seed and its number, so
 * starting in the middle replays nothing.
 */
export async function* optimizerSteps<Batch extends TrainBatch>(
  loader: Loader<Batch>,
  options: { from: Cursor; accumulation: number },
): AsyncGenerator<StepData<Batch>, void> {
  for (let epoch = options.from.epoch; ; epoch++) {
    const total = loader.batchesIn(epoch)
    let batch = epoch === options.from.epoch ? options.from.batch : 0
    let step: StepData<Batch> | null = null
    for await (const item of loader.epoch(epoch, { from: batch })) {
      step ??= {
        batches: [],
        normalizer: 0,
        tokens: 0,
        next: { epoch, batch },
        endsEpoch: false,
        position: 0,
      }
      step.batches.push(item)
      step.normalizer += item.count
      step.tokens += item.tokens
      batch++
      step.endsEpoch = batch === total
      step.position = epoch + batch / total
      step.next = step.endsEpoch ? { epoch: epoch + 1, batch: 0 } : { epoch, batch }
      if (step.batches.length === options.accumulation || step.endsEpoch) {
        yield step
        step = null
      }
    }
  }
}

/** Number of optimizer steps in the first `epochs` epochs. */
export function countSteps(
  loader: Pick<Loader<TrainBatch>, 'batchesIn'>,
  epochs: number,
  accumulation: number,
): number {
  let steps = 0
  for (let epoch = 0; epoch < epochs; epoch++) steps += Math.ceil(loader.batchesIn(epoch) / accumulation)
  return steps
}
