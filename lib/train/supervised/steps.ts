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

/** Epochs up to which a cursor is compared with its step: the batches of each are planned for it. */
const COMPARED_EPOCHS = 10_000

/** Whether a cursor is the position in the data after `step` steps, and so within the data. */
export function isCursorOf(
  step: number,
  { epoch, batch }: Cursor,
  loader: Pick<Loader<TrainBatch>, 'batchesIn'>,
  accumulation: number,
): boolean {
  // Each epoch has a step.
  if (epoch > step || batch % accumulation !== 0 || batch >= loader.batchesIn(epoch)) return false
  return epoch > COMPARED_EPOCHS || countSteps(loader, epoch, accumulation) + batch / accumulation === step
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
