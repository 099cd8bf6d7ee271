import { PosttrainError } from '../errors.js'
import { resolveOptions } from '../options/validate.js'
import type { DistillEvent } from './events.js'
import type { DistillOptions } from './options.generated.js'
import { distillOptions, type ResolvedDistillOptions } from './options.js'
import { type DistillControl, DistillRun } from './run.js'

/**
 * Generates training rows from seeds with a stronger teacher, an OpenAI-compatible endpoint or a local model. The teacher
 * answers the seeds, extends them with new instructions and answers (self-instruct), or ranks answers into preference
 * data.
 *
 * Each finished row is appended to `output` as one synced line with the `seedId` of its seed; `resume` generates only
 * missing rows. A seed without a usable answer is retried, then reported by an event and counted, and not written. The
 * run advances as its events are consumed; `break` and `stop()` end it cleanly.
 *
 * ```ts
 * const run = distill({ data: 'seeds.jsonl', output: 'train.jsonl', endpoint: { model: 'gpt-5-mini' } })
 * for await (const event of run) if (event.type === 'row') console.log(event.done, event.total, event.row)
 * ```
 *
 * @throws PosttrainError ERR_INVALID_ARGUMENT for wrong options, an output file that must not be changed, and an endpoint
 * that rejects the key or the model; ERR_DATA with file and line for bad seeds, and for too many seeds in a row without
 * a usable answer; ERR_IO if the endpoint cannot be reached or the file cannot be written; AbortError.
 */
export function distill(options: DistillOptions): DistillRun {
  const resolved = resolveOptions(distillOptions, options)
  if (resolved.model === undefined && resolved.endpoint === undefined) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      'distill: no teacher: set a local model (option model) or an endpoint (option endpoint)',
    )
  }
  return new DistillRun(resolved.output, (control) => run(resolved, control))
}

async function* run(
  options: ResolvedDistillOptions,
  control: DistillControl,
): AsyncGenerator<DistillEvent, void> {
  // Teachers and tasks are loaded only when a run starts.
  const { makeRows } = await import('./making.js')
  yield* makeRows(options, control)
}
