import { Command } from 'commander'
import { text } from '../options/kinds.js'
import { type OptionSet, option } from '../options/option.js'
import { lazily } from '../options/zod.js'
import { addFlags, readFlags } from './flags.js'

const set = {
  name: 'push',
  schema: lazily((z) =>
    z.object({
      model: option(z.string(), 'Folder of a model or an adapter', text('DIR')),
      to: option(z.string(), 'org/name on the Hub; created if missing', text('NAME')),
      private: option(z.boolean().default(false), 'Create the repository as private'),
      revision: option(z.string().optional(), 'Branch (default: main); created if missing', text('NAME')),
      message: option(z.string().optional(), 'Commit message', text('TEXT')),
      quiet: option(z.boolean().default(false), 'Hide progress'),
    }),
  ),
  conflicts: [],
} satisfies OptionSet

/** `posttrain push --model DIR --to org/name`: the files of a folder in one commit; prints its address. */
export function pushCommand(): Command {
  const command = new Command('push')
    .description('Upload a model or adapter to the Hub')
    .addHelpText('after', '\nThe token is read from HF_TOKEN, or from where `hf auth login` stored it.')
  return addFlags(command, set).action(async () => {
    const { options } = await readFlags(command, set)
    const { push } = await import('../files/hub/push.js')
    const { model, to, revision, message } = options
    const { url } = await push(model, to, { private: options.private, revision, message })
    process.stdout.write(`${url}\n`)
  })
}
