import { Command } from 'commander'
import { PosttrainError } from '../errors.js'
import { text } from '../options/kinds.js'
import { type OptionSet, option } from '../options/option.js'
import { lazily } from '../options/zod.js'
import { addFlags, readFlags } from './flags.js'
import { deviceFields, type ModelOptions } from './machine.js'
import type { Outputs } from './merge-check.js'

const set = {
  name: 'merge',
  schema: lazily((z) =>
    z.object({
      model: option(z.string(), 'Folder of the base, or org/name on the Hub', text('DIR')),
      adapter: option(z.string(), 'Folder of the adapter, or org/name on the Hub', text('DIR')),
      output: option(z.string(), 'Output folder', text('DIR')),
      saveDtype: option(
        z.enum(['float32', 'bfloat16', 'float16']).optional(),
        'Data type of the saved model (default: that of the weights in memory)',
      ),
      padToken: option(
        z.string().min(1).optional(),
        'Reward models: a vocabulary token that ends no response, for tokenizers without a pad token',
      ),
      overwrite: option(z.boolean().default(false), 'Replace an existing folder'),
      check: option(
        z.boolean().default(false),
        'Compare the outputs of the saved model with those of the adapter on its base',
      ),
      ...deviceFields(),
      quantize: option(
        z.enum(['nf4']).optional(),
        'With --check: compare also with the adapter on the base in 4 bits, as it was trained',
      ),
    }),
  ),
  conflicts: [
    { option: 'quantize', when: (given) => !given('check'), because: 'has no effect without check' },
  ],
} satisfies OptionSet

/** `posttrain merge --model DIR --adapter DIR --output DIR`: a plain model folder, of a language or a reward model. */
export function mergeCommand(): Command {
  const command = new Command('merge').description('Merge an adapter into the weights of its base')
  return addFlags(command, set).action(async () => {
    const { options } = await readFlags(command, set)
    const { isScored, openModel, openScored } = await import('./open-model.js')
    const { mergeReport, outputsOf, quantizedReport } = await import('./merge-check.js')
    const { adapter, output, overwrite, saveDtype, padToken, check } = options
    const scored = await isScored(adapter)
    if (padToken !== undefined && !scored) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        '--pad-token has no effect with the adapter of a language model: leave it out',
      )
    }
    const open = scored ? openScored : openModel
    const { quantize, ...plain } = options
    let before: { adapted: Outputs; base: Outputs } | null = null
    let dtype = saveDtype ?? ('float32' as const)
    {
      await using model = await open(plain)
      if (check) {
        const name = model.adapter
        const adapted = await outputsOf(model)
        await model.setAdapter(null)
        before = { adapted, base: await outputsOf(model) }
        await model.setAdapter(name)
      }
      if (saveDtype === undefined && model.dtype !== 'float64') dtype = model.dtype
      await model.mergeAdapter()
      const how = { overwrite, ...(saveDtype && { dtype: saveDtype }) }
      await model.save(output, { ...how, ...(padToken !== undefined && { padToken }) })
    }
    process.stdout.write(`${output}\n`)
    if (before === null) return
    const { adapter: _, ...saved } = { ...plain, model: output }
    const outputs = async (given: ModelOptions) => {
      await using model = await open(given)
      return await outputsOf(model)
    }
    const merged = await outputs(saved)
    process.stderr.write(`${mergeReport({ merged, ...before }, dtype)}\n`)
    if (quantize === undefined) return
    process.stderr.write(`${quantizedReport(merged, await outputs({ ...plain, quantize }))}\n`)
  })
}
