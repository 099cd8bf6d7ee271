import type { Command } from 'commander'
import { option } from '../options/option.js'
import { lazily } from '../options/zod.js'
import { pretrainOptions } from '../train/options/fields.js'
import type { PretrainOptions } from '../train/pretrain.js'
import { commandOptions, trainingCommand } from './train.js'

const scratchFields = lazily((z) => ({
  fromScratch: option(
    z.boolean().default(false),
    'Start from new random weights (by --seed) for the config.json and tokenizer in the model folder',
  ),
}))

export function pretrainCommand(): Command {
  const summary = 'Train a model on plain text'
  return trainingCommand(
    summary,
    commandOptions(pretrainOptions, scratchFields),
    async (machine, { fromScratch, ...options }) => {
      const { createModel, openModel } = await import('./open-model.js')
      const { pretrain } = await import('../train/pretrain.js')
      const model = fromScratch
        ? await createModel(machine, (options.seed as number) ?? 0)
        : await openModel(machine)
      return { run: pretrain({ ...options, model } as PretrainOptions), close: () => model.dispose() }
    },
  )
}
