import { PosttrainError } from '../errors.js'
import { resolveOptions } from '../options/validate.js'
import type { DistillEvent } from './events.js'
import type { DistillOptions } from './options.generated.js'
import { distillOptions, type ResolvedDistillOptions } from './options.js'
import { type DistillControl, DistillRun } from './run.js'

/**
 * A stronger teacher, an OpenAI-compatible endpoint or a local model, makes training rows of seeds: it answers them,
 * extends them by new instructions with answers (self-instruct), or ranks answers to them into preference rows.
 *
 * Each row is appended to `output` as one synced line as soon as it is there, with the `seedId` it was made of; `resume`
 * asks only for what is not there yet. A seed without a good answer is asked again, then told of and counted, and not
 * written. The run is paused while its events are not pulled; `break` and `stop()` end it cleanly.
 *
 * ```ts
 * const run = distill({ data: 'seeds.jsonl', output: 'train.jsonl', endpoint: { model: 'gpt-5-mini' } })
 * for await (const event of run) if (event.type === 'row') console.log(event.done, event.total, event.row)
 * ```
 *
 * @throws PosttrainError ERR_INVALID_ARGUMENT for options, an output file that is not to be touched, and an endpoint
 * that knows neither key nor model; ERR_DATA with file and line for bad seeds, and for too many seeds in a row without
 * a good answer; ERR_IO where an endpoint is not reached or the file cannot be written; AbortError.
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
  // Only who distills needs the teachers and the tasks.
  const { makeRows } = await import('./making.js')
  yield* makeRows(options, control)
}
