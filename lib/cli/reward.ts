import type { Command } from 'commander'
import { rewardOptions } from '../train/options/preference.js'
import type { RewardOptions } from '../train/reward.js'
import { commandOptions, trainingCommand } from './train.js'

export function rewardCommand(): Command {
  const summary = 'Train a reward model on rankings'
  return trainingCommand(summary, commandOptions(rewardOptions), async (machine, options) => {
    const { openTrainable } = await import('./open-model.js')
    const { reward } = await import('../train/reward.js')
    const model = await openTrainable(machine)
    return { run: reward({ ...options, model } as RewardOptions), close: () => model.dispose() }
  })
}
