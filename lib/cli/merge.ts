import { Command } from 'commander'
import * as z from 'zod'
import { type OptionSet, option } from '../options/option.js'
import { addFlags, readFlags } from './flags.js'
import { deviceFields } from './machine.js'

const text = (placeholder: string) => ({ placeholder, read: (value: string): unknown => value })

const set = {
  name: 'merge',
  schema: z.object({
    model: option(z.string(), 'Folder of the base, or org/name on the Hub', text('DIR')),
    adapter: option(z.string(), 'Folder of the adapter, or org/name on the Hub', text('DIR')),
    output: option(z.string(), 'Folder to write', text('DIR')),
    saveDtype: option(
      z.enum(['float32', 'bfloat16', 'float16']).optional(),
      'Of the saved model (default: that of the weights in memory)',
    ),
    overwrite: option(z.boolean().default(false), 'Replace a folder that is there'),
    ...deviceFields,
  }),
  conflicts: [],
} satisfies OptionSet

/** `posttrain merge --model DIR --adapter DIR --output DIR`: a plain model folder, of a language or a reward model. */
export function mergeCommand(): Command {
  const command = new Command('merge').description('Add an adapter to the weights of its base')
  return addFlags(command, set).action(async () => {
    const { options } = await readFlags(command, set)
    const { openModel } = await import('./open-model.js')
    const { readPeftConfig } = await import('../models/lora.js')
    const { modelSource } = await import('../models/hub.js')
    const { RewardModel } = await import('../models/reward-model.js')
    const { folder } = await modelSource(options.adapter, 'adapter')
    const scored = (await readPeftConfig(folder)).task_type === 'SEQ_CLS'
    await using base = await openModel({ ...options, adapter: scored ? undefined : options.adapter })
    const write = { overwrite: options.overwrite, ...(options.saveDtype && { dtype: options.saveDtype }) }
    if (scored) {
      const reward = await RewardModel.fromCausalLM(base, { seed: null })
      // The base goes with its last user, and only one may change it.
      await base.dispose()
      await using merged = reward
      await merged.loadAdapter('given', options.adapter)
      await merged.mergeAdapter()
      await merged.save(options.output, write)
    } else {
      await base.mergeAdapter()
      await base.save(options.output, write)
    }
    process.stdout.write(`${options.output}\n`)
  })
}
