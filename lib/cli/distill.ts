import { Command } from 'commander'
import { distill } from '../distill/distill.js'
import type { DistillEndEvent, DistillEvent } from '../distill/events.js'
import type { DistillOptions } from '../distill/options.generated.js'
import { distillOptions } from '../distill/options.js'
import { type Conflict, type OptionSet, option } from '../options/option.js'
import { lazily } from '../options/zod.js'
import { counted, duration, monotonic } from './counts.js'
import { addFlags, readFlags } from './flags.js'
import { INTERRUPTED, onInterrupt } from './interrupt.js'
import { loading, modelFields } from './machine.js'
import { print } from './train.js'
import { UsageError } from './usage.js'
import { visible } from './visible.js'

const idleBesideEndpoint = Object.keys(modelFields()).map(
  (name): Conflict => ({
    option: name,
    when: (given) => given('endpoint'),
    because: 'has no effect with an endpoint',
  }),
)

export const set = {
  ...distillOptions,
  schema: lazily((z) => {
    const { signal: _, ...fields } = distillOptions.schema().shape
    return z.object({
      ...fields,
      model: option(z.string().min(1).optional(), 'Folder of a local teacher model, or org/name on the Hub', {
        placeholder: 'DIR',
        read: (text) => text,
      }),
      ...modelFields(),
      json: option(z.boolean().default(false), 'One JSON event per line on stdout, and nothing else there'),
      quiet: option(z.boolean().default(false), 'Hide progress'),
    })
  }),
  conflicts: [...distillOptions.conflicts, ...idleBesideEndpoint],
} satisfies OptionSet

/** `posttrain distill --data FILE --output FILE --endpoint-model NAME | --model DIR`: rows written by a teacher model. */
export function distillCommand(): Command {
  const command = new Command('distill')
    .description('Generate training rows with a stronger model')
    .addHelpText('after', '\nThe API key is read from OPENAI_API_KEY and written nowhere.')
  return addFlags(command, set).action(async () => {
    const { options, given } = await readFlags(command, set)
    const { model: folder, adapter, json, quiet } = options
    if (folder === undefined && options.endpoint === undefined) {
      throw new UsageError('distill: --endpoint-model NAME or --model DIR is required')
    }
    let run: ReturnType<typeof distill> | null = null
    const progress = quiet ? () => undefined : reporter((line) => process.stderr.write(`${visible(line)}\n`))
    const off = onInterrupt(() => {
      if (!run) process.exit(INTERRUPTED)
      run.stop()
      process.stderr.write('Stopping after the requests in flight; press Ctrl-C again to exit at once\n')
    })
    try {
      const model =
        folder === undefined
          ? null
          : await (await import('./open-model.js')).openModel({
              ...loading(options),
              model: folder,
              adapter,
            })
      try {
        const own = Object.keys(distillOptions.schema().shape).filter((name) => name !== 'model')
        const recipe = Object.fromEntries(Object.entries(given).filter(([name]) => own.includes(name)))
        run = distill({ ...recipe, ...(model && { model }) } as unknown as DistillOptions)
        for await (const event of run) {
          if (json) await print(JSON.stringify(event))
          else progress(event)
          if (event.type === 'end') process.exitCode = conclude(event)
        }
      } finally {
        await model?.dispose()
      }
    } finally {
      off()
    }
  })
}

/** Returns the exit code; prints what to do if it is not 0. */
function conclude({ reason, rows, total, output }: DistillEndEvent): number {
  if (reason === 'stopped') {
    process.stderr.write(
      `posttrain distill: interrupted; finished rows are in ${visible(output)}; resume with the same command and --resume\n`,
    )
    return INTERRUPTED
  }
  // New instructions that failed do not matter once there are enough others.
  if (rows >= total) return 0
  process.stderr.write(
    `posttrain distill: ${total - rows} of ${total} rows are missing in ${visible(output)}: their seeds got no usable answer; the same command with --resume retries them\n`,
  )
  return 1
}

/** Progress in lines: problems at once, the rest about every two seconds. */
export function reporter(line: (text: string) => unknown, now = monotonic): (event: DistillEvent) => void {
  let [first, startedAt, shownAt, retries, failed] = [0, 0, Number.NEGATIVE_INFINITY, 0, 0]
  return (event) => {
    switch (event.type) {
      case 'start': {
        first = event.finished
        startedAt = now()
        const left = [
          event.duplicates > 0 ? counted(event.duplicates, 'duplicate') : '',
          event.badRows > 0 ? `${counted(event.badRows, 'bad row')} left out` : '',
        ].filter(Boolean)
        line(
          `${counted(event.seeds, 'seed')}${left.length > 0 ? ` (${left.join(', ')})` : ''}, teacher ${event.teacher}`,
        )
        if (event.repaired)
          line(`The last line of ${event.output} was incomplete; its row is generated again`)
        if (event.finished > 0) line(`${event.finished} of ${counted(event.total, 'row')} already written`)
        break
      }
      case 'row': {
        if (now() - shownAt < 2000 && event.done < event.total) return
        shownAt = now()
        const seconds = (now() - startedAt) / 1000
        const left = (seconds / (event.done - first)) * (event.total - event.done)
        const again = retries > 0 ? `, ${retries} ${retries === 1 ? 'retry' : 'retries'}` : ''
        line(
          `${event.done}/${counted(event.total, 'row')}${again}${failed > 0 ? `, ${failed} failed` : ''}, ${duration(left)} left`,
        )
        break
      }
      case 'retry':
        retries++
        // Shown even if no row arrives, to say why.
        if (now() - shownAt < 2000) return
        shownAt = now()
        line(`Retrying in ${(event.waitMs / 1000).toFixed(1)} s: ${event.reason}`)
        break
      case 'failure':
        failed++
        line(`${event.origin}: no usable answer: ${event.reason}`)
        break
      case 'duplicate':
        break
      case 'end': {
        const { rows, written, requests, seconds, promptTokens, completionTokens, duplicates } = event
        const copies = duplicates > 0 ? `, ${counted(duplicates, 'duplicate')} left out` : ''
        line(
          `${counted(rows, 'row')} in ${event.output}, ${written} of them new${copies}; ${counted(requests, 'request')}, ${promptTokens} + ${completionTokens} tokens, ${duration(seconds)}`,
        )
        break
      }
      default:
        event satisfies never
    }
  }
}
