import { loadDataset } from '../data/dataset.js'
import { rowLoader } from '../data/loaders/rows.js'
import { plainTemplate } from '../data/text/templates.js'
import type { ResolvedOptions } from '../options/option.js'
import { resolveOptions } from '../options/validate.js'
import { pretrainOptions } from './options/fields.js'
import type { PretrainOptions } from './options/options.generated.js'
import { prepareAdapter } from './roles/adapter.js'
import type { EndEvent, TrainEvent } from './run/events.js'
import { hasStarted, Run, type RunControl } from './run/run.js'
import { crossEntropyObjective } from './supervised/cross-entropy.js'
import { superviseTraining } from './supervised/loop.js'
import { sequenceLength } from './supervised/training.js'

/**
 * Pre-training on plain text: every token is a label. A text longer than `maxLength` is cut into several
 * sequences, the last of which ends with the end-of-text token.
 *
 * ```ts
 * const model = await CausalLM.create(config, { seed: 0, tokenizer })
 * await pretrain({ model, data: 'corpus.jsonl', epochs: 1, output: 'runs/base' }).finish()
 * ```
 *
 * @throws as `sft`.
 */
export function pretrain(options: PretrainOptions): Run {
  const resolved = resolveOptions(pretrainOptions, options)
  return new Run((control) => train(resolved, control))
}

async function* train(
  options: ResolvedOptions<typeof pretrainOptions>,
  control: RunControl,
): AsyncGenerator<TrainEvent, EndEvent> {
  const { model, batchSize, batchTokens, shuffle, seed } = options
  const { tokenizer } = model
  const maxLength = sequenceLength(model, options.maxLength)
  // Rows of other kinds are rendered as plain text, and every token is a label.
  const form = { template: plainTemplate, strings: 'raw' as const, rendered: options.rendered ?? false }
  const rows = await loadDataset(options.data, {
    ...options,
    maxLength,
    tokenizer,
    ...form,
    trainOn: 'all',
    overflow: 'truncate',
    needsStop: false,
  })
  try {
    await using prepared = await prepareAdapter(model, options, hasStarted(control))
    const { adapted } = prepared
    const padId = tokenizer.padId ?? tokenizer.eosId ?? 0
    const batching = batchTokens === undefined ? { batchSize: batchSize ?? 8 } : { batchTokens }
    return yield* superviseTraining(
      {
        recipe: 'pretrain',
        model,
        options: {
          ...options,
          maxLength,
          learningRate: options.learningRate ?? (adapted ? 2e-4 : 6e-4),
          epochs: options.epochs ?? 1,
        },
        objective: crossEntropyObjective(model),
        dropout: true,
        train: rowLoader(rows.train, { ...batching, padId, shuffle, seed }),
        validation: rows.validation && rowLoader(rows.validation, { ...batching, padId, shuffle: false }),
        template: null,
        sampling: form,
        choices: { maxLength },
      },
      control,
    )
  } finally {
    await rows.train.store.close()
    await rows.validation?.store.close()
  }
}
