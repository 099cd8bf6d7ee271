import { loadDataset } from '../data/dataset.js'
import type { DataReport } from '../data/encode/report.js'
import { rowLoader } from '../data/loaders/rows.js'
import type { ResolvedOptions } from '../options/option.js'
import { resolveOptions } from '../options/validate.js'
import { sftOptions } from './options/fields.js'
import type { SftOptions } from './options/options.generated.js'
import { prepareAdapter } from './roles/adapter.js'
import type { EndEvent, TrainEvent } from './run/events.js'
import { type RowForm, rowForm } from './run/row-form.js'
import { hasStarted, Run, type RunControl } from './run/run.js'
import { crossEntropyObjective } from './supervised/cross-entropy.js'
import { superviseTraining } from './supervised/loop.js'
import { sequenceLength } from './supervised/training.js'

/**
 * Supervised fine-tuning (SFT) on instructions or conversations: the model learns the responses, given the prompts
 * before them. The run starts when its first event is pulled.
 *
 * The loss is cross-entropy in nats, a mean over all labels of an optimizer step. Labels are by default the tokens of
 * every assistant turn with its terminator. One step is `batchSize` rows (or `batchTokens` tokens) times
 * `gradientAccumulation`.
 *
 * ```ts
 * const run = sft({ model, data: 'train.jsonl', validation: { fraction: 0.05 }, epochs: 3, output: 'runs/first' })
 * for await (const event of run) if (event.type === 'step') console.log(event.step, event.loss)
 * ```
 *
 * @throws PosttrainError ERR_INVALID_ARGUMENT at once for wrong options; during the run, ERR_DATA (file, line,
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
  const { form, choices, adopted } = await rowForm(options, model)
  const rows = await loadDataset(options.data, {
    ...options,
    maxLength,
    tokenizer,
    ...form,
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
        template: adopted(rows.train),
        sampling: samplingForm(form, rows.train.report),
        choices: { maxLength, ...choices, trainOn: options.trainOn, overflow: options.overflow },
      },
      control,
    )
  } finally {
    await rows.train.store.close()
    await rows.validation?.store.close()
  }
}

/** Form of the prompts of `samples`: raw where the rows' own prompts were, else a user turn. */
function samplingForm(form: RowForm, { stringPrompts }: DataReport): RowForm {
  const raw = form.rendered || stringPrompts.raw + stringPrompts.rendered > 0
  return { ...form, strings: raw ? 'raw' : 'turn' }
}
