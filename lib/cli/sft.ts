import type { Command } from 'commander'
import { sftOptions } from '../train/options/fields.js'
import type { SftOptions } from '../train/sft.js'
import { commandOptions, trainingCommand } from './train.js'

export function sftCommand(): Command {
  const summary = 'Fine-tune a model on instructions or conversations'
  return trainingCommand(summary, commandOptions(sftOptions), async (machine, options) => {
    const { openModel } = await import('./open-model.js')
    const { sft } = await import('../train/sft.js')
    const model = await openModel(machine)
    return { run: sft({ ...options, model } as SftOptions), close: () => model.dispose() }
  })
}
