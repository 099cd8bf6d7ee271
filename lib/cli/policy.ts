import type { Command } from 'commander'
import type { CausalLM } from '../models/causal-lm.js'
import type { OptionSet } from '../options/option.js'
import type { GrpoOptions, RlooOptions } from '../train/grpo.js'
import { grpoOptions, rlooOptions } from '../train/options/group.js'
import { ppoOptions } from '../train/options/ppo.js'
import type { PpoOptions } from '../train/ppo.js'
import type { AnyRun } from './progress.js'
import { commandOptions, type MachineOptions, trainingCommand } from './train.js'

/** Opens what the options name beside the model, starts the run, and closes all of it after the run. */
export async function withReference(
  machine: MachineOptions,
  model: CausalLM,
  options: Record<string, unknown>,
  start: (options: Record<string, unknown>) => AnyRun,
): Promise<{ run: AnyRun; close: () => Promise<void> }> {
  const { openRewards } = await import('./open-model.js')
  const named = options.reward as readonly string[] | undefined
  try {
    const { rewards, close } = await openRewards(named ?? [], model, machine)
    try {
      const run = start({ ...options, ...(named !== undefined && { reward: rewards }) })
      return {
        run,
        close: async () => {
          await close()
          await model.dispose()
        },
      }
    } catch (error) {
      await close()
      throw error
    }
  } catch (error) {
    await model.dispose()
    throw error
  }
}

function policyCommand(
  summary: string,
  set: OptionSet,
  start: (options: Record<string, unknown>) => Promise<(options: Record<string, unknown>) => AnyRun>,
): Command {
  return trainingCommand(summary, commandOptions(set), async (machine, options) => {
    const { openModel } = await import('./open-model.js')
    const recipe = await start(options)
    const model = await openModel(machine)
    return await withReference(machine, model, options, (given) => recipe({ ...given, model }))
  })
}

export function ppoCommand(): Command {
  const summary = 'Reinforcement learning with actor, critic, reward and reference (RLHF)'
  return policyCommand(summary, ppoOptions, async () => {
    const { ppo } = await import('../train/ppo.js')
    return (options) => ppo(options as unknown as PpoOptions)
  })
}

export function grpoCommand(): Command {
  const summary = 'Reinforcement learning with groups of answers and no critic'
  return policyCommand(summary, grpoOptions, async () => {
    const { grpo } = await import('../train/grpo.js')
    return (options) => grpo(options as unknown as GrpoOptions)
  })
}

export function rlooCommand(): Command {
  const summary = 'Reinforcement learning with each answer against the others of its group'
  return policyCommand(summary, rlooOptions, async () => {
    const { rloo } = await import('../train/grpo.js')
    return (options) => rloo(options as unknown as RlooOptions)
  })
}
