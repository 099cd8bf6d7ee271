import { loadDataset } from '../data/dataset.js'
import { rowLoader } from '../data/loaders/rows.js'
import { templateOf } from '../data/text/templates.js'
import type { ResolvedOptions } from '../options/option.js'
import { resolveOptions } from '../options/validate.js'
import { sftOptions } from './options/fields.js'
import type { SftOptions } from './options/options.generated.js'
import { prepareAdapter } from './roles/adapter.js'
import type { EndEvent, TrainEvent } from './run/events.js'
import { hasStarted, Run, type RunControl } from './run/run.js'
import { crossEntropyObjective } from './supervised/cross-entropy.js'
import { superviseTraining } from './supervised/loop.js'
import { sequenceLength } from './supervised/training.js'

/**
 * Supervised fine-tuning: the model learns the answers of instructions or conversations, given what comes
 * before them. Nothing happens before the first event is pulled.
 *
 * The loss is cross-entropy over the trained tokens (by default every turn of the assistant, with its
 * terminator), in nats, the mean over all labels of an optimizer step. One step is `batchSize` rows (or
 * `batchTokens` tokens) times `gradientAccumulation`.
 *
 * ```ts
 * const run = sft({ model, data: 'train.jsonl', validation: { fraction: 0.05 }, epochs: 3, output: 'runs/first' })
 * for await (const event of run) if (event.type === 'step') console.log(event.step, event.loss)
 * ```
 *
 * @throws PosttrainError ERR_INVALID_ARGUMENT at once for wrong options; while it runs, ERR_DATA (file, line,
 * field), ERR_NON_FINITE, ERR_IO, ERR_OUT_OF_MEMORY, and AbortError after `signal`.
 */
export function sft(options: SftOptions): Run {
  const resolved = resolveOptions(sftOptions, options)
  return new Run((control) => train(resolved, control))
}

async function* train(
  options: ResolvedOptions<typeof sftOptions>,
  control: RunControl,
): AsyncGenerator<TrainEvent, EndEvent> {
  const { model, batchSize, batchTokens, shuffle, seed } = options
  const { tokenizer } = model
  const maxLength = sequenceLength(model, options.maxLength)
  const template = await templateOf(options.template, model)
  const rows = await loadDataset(options.data, {
    ...options,
    maxLength,
    tokenizer,
    template,
    needsStop: true,
  })
  try {
    await using prepared = await prepareAdapter(model, options, hasStarted(control))
    const { adapted } = prepared
    const padId = tokenizer.padId ?? tokenizer.eosId ?? 0
    const batching = batchTokens === undefined ? { batchSize: batchSize ?? 8 } : { batchTokens }
    return yield* superviseTraining(
      {
        recipe: 'sft',
        model,
        options: {
          ...options,
          maxLength,
          learningRate: options.learningRate ?? (adapted ? 2e-4 : 2e-5),
          epochs: options.epochs ?? 3,
        },
        objective: crossEntropyObjective(model),
        dropout: true,
        train: rowLoader(rows.train, { ...batching, padId, shuffle, seed }),
        validation: rows.validation && rowLoader(rows.validation, { ...batching, padId, shuffle: false }),
        template,
        choices: { maxLength, template: template.name, trainOn: options.trainOn, overflow: options.overflow },
      },
      control,
    )
  } finally {
    await rows.train.store.close()
    await rows.validation?.store.close()
  }
}
