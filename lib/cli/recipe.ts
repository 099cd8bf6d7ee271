import type { Command } from 'commander'
import { type DataSource, needFiles, type Validation } from '../data/sources.js'
import { needWritable } from '../files/atomic.js'
import { option } from '../options/option.js'
import { lazily } from '../options/zod.js'
import { RECIPES, type RecipeName } from '../train/recipes.js'
import type { ModelOptions } from './machine.js'
import { commandOptions, trainingCommand } from './train.js'

const scratchFields = lazily((z) => ({
  fromScratch: option(
    z.boolean().default(false),
    'Start from new random weights (by --seed) for the config.json and tokenizer in the model folder',
  ),
}))

/** Builds the command of a recipe: its options are flags; the model and the rewards are opened from the flags' paths. */
export function recipeCommand(name: RecipeName): Command {
  const { summary, options: set, start } = RECIPES[name]
  const flags = commandOptions(set, name === 'pretrain' ? scratchFields : undefined)
  return trainingCommand(summary, flags, async (machine, { fromScratch, ...options }) => {
    const opened: Opened[] = []
    const close = async () => {
      for (const item of opened.reverse()) await item.dispose()
    }
    try {
      const named = await openNamed(name, machine, { ...options, fromScratch }, opened)
      return { run: await start({ ...options, ...named }), close }
    } catch (error) {
      await close()
      throw error
    }
  })
}

interface Opened {
  dispose(): Promise<void>
}

/** Opens the model, and the rewards of a recipe that has some; adds each to `opened` as soon as it is open. */
async function openNamed(
  name: RecipeName,
  machine: ModelOptions,
  { fromScratch, seed, reward, data, validation, output }: Record<string, unknown>,
  opened: Opened[],
): Promise<Record<string, unknown>> {
  await needFiles(data as DataSource, validation as Validation | undefined)
  if (typeof output === 'string') await needWritable(output)
  const { createModel, openModel, openRewards, openTrainable } = await import('./open-model.js')
  if (name === 'reward' || fromScratch === true) {
    const model =
      name === 'reward' ? await openTrainable(machine) : await createModel(machine, Number(seed ?? 0))
    opened.push(model)
    return { model }
  }
  const model = await openModel(machine)
  opened.push(model)
  // If none is named, the recipe reports that it needs one.
  if (reward === undefined) return { model }
  const { rewards, close } = await openRewards(reward as readonly string[], model, machine)
  opened.push({ dispose: close })
  return { model, reward: rewards }
}
