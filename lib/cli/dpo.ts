import type { Command } from 'commander'
import type { DpoOptions } from '../train/dpo.js'
import { dpoOptions } from '../train/options/preference.js'
import { withReference } from './policy.js'
import { commandOptions, trainingCommand } from './train.js'

export function dpoCommand(): Command {
  const summary = 'Train on better and worse answers, without a reward model (DPO, KTO and others)'
  return trainingCommand(summary, commandOptions(dpoOptions), async (machine, options) => {
    const { openModel } = await import('./open-model.js')
    const { dpo } = await import('../train/dpo.js')
    const model = await openModel(machine)
    return await withReference(machine, model, options, (given) => dpo({ ...given, model } as DpoOptions))
  })
}
