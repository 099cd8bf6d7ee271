import { sft } from '../../lib/train/sft.js'
import { instructionRows, tinyModel } from '../helpers/tiny-training.js'

/** The losses of a training of its own; `onStep` hears of each step. Steps long enough to be met in the middle. */
export async function train(
  steps: number,
  options: { seed?: number; dispose?: boolean; onStep?: (step: number) => void } = {},
): Promise<number[]> {
  const model = await tinyModel(options.seed ?? 0)
  const losses: number[] = []
  const run = sft({
    model,
    data: instructionRows(256, options.seed ?? 0),
    template: 'plain',
    maxLength: 64,
    learningRate: 1e-3,
    batchSize: 64,
    maxSteps: steps,
  })
  for await (const event of run) {
    if (event.type !== 'step') continue
    losses.push(event.loss)
    options.onStep?.(event.step)
  }
  if (options.dispose !== false) await model.dispose()
  return losses
}
