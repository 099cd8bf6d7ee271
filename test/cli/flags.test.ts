import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { Command } from 'commander'
import { addFlags, readFlags } from '../../lib/cli/flags.js'
import { prepare } from '../../lib/cli/program.js'
import { UsageError } from '../../lib/cli/usage.js'
import { flagsOf } from '../../lib/options/flags.js'
import { type OptionSet, option } from '../../lib/options/option.js'
import { trainingConflicts, trainingFields } from '../../lib/options/training.js'
import { lazily } from '../../lib/options/zod.js'
import { newFolder } from '../helpers/scratch.js'

const set = {
  name: 'recipe',
  schema: lazily((z) =>
    z.object({
      data: option(z.string(), 'Rows'),
      epochs: option(z.number().gt(0).optional(), 'Passes over the data'),
      validation: option(z.string().optional(), 'Rows'),
      ...trainingFields(),
      hidden: option(z.string().optional(), 'Not for people', false),
    }),
  ),
  conflicts: trainingConflicts,
} satisfies OptionSet

const parse = async (...argv: string[]) => {
  const command = addFlags(new Command('recipe'), set).exitOverride()
  command.configureOutput({ writeErr: () => undefined, writeOut: () => undefined }).action(() => undefined)
  await command.parseAsync(argv, { from: 'user' })
  return (await readFlags(command, set)).options
}

const folder = newFolder()
function config(name: string, text: string): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}

test('every option has one flag, and its help, from the schema', (t) => {
  const flags = flagsOf(set.schema())
  const names = flags.map(({ name }) => name)
  t.is(new Set(names).size, names.length)
  for (const name of ['learning-rate', 'hidden']) t.false(names.includes(name))
  for (const name of [
    'max-steps',
    'early-stopping-patience',
    'samples-prompts',
    'checkpoints-keep',
    'seed',
  ]) {
    t.true(names.includes(name), name)
  }
  for (const { name, text } of flags) t.true(text.length > 0, name)
  const help = prepare(addFlags(new Command('recipe'), set)).helpInformation()
  for (const name of names) t.true(help.replace('--[no-]', '--').includes(`--${name}`), name)
  t.regex(help, /--max-grad-norm <X>.*\(default: 1\)/s)
})

test('flags become the options that a program would give', async (t) => {
  const options = await parse(
    ...[
      '--data',
      'a.jsonl',
      '--epochs',
      '2',
      '--no-shuffle',
      '--batch-size',
      '4',
      '--resume',
      '--output',
      'o',
    ],
    ...[
      '--validation',
      'v',
      '--early-stopping-patience',
      '2',
      '--samples-prompts',
      'a',
      '--samples-prompts',
      'b',
    ],
  )
  t.like(options, {
    data: 'a.jsonl',
    epochs: 2,
    shuffle: false,
    batchSize: 4,
    resume: true,
    earlyStopping: { patience: 2, minDelta: 0 },
    samples: { prompts: ['a', 'b'], maxNewTokens: 64 },
    maxGradNorm: 1,
  })
  t.is((await parse('--data', 'a')).shuffle, true)
})

test('flags override a config file', async (t) => {
  const path = config('good.json', '{"data": "a", "epochs": 5, "checkpoints": {"keep": 7}, "output": "o"}')
  const options = await parse('--config', path, '--epochs', '2', '--checkpoints-every-steps', '9')
  t.like(options, { data: 'a', epochs: 2, checkpoints: { keep: 7, everySteps: 9 } })
})

test('wrong use is one sentence that names the flag or the file', async (t) => {
  const refused = async (...argv: string[]) => (await t.throwsAsync(parse(...argv)))?.message
  t.is(await refused('--epochs', '2'), 'recipe: --data is missing')
  t.is(await refused('--data', 'a', '--epochs', 'two'), 'recipe: --epochs must be a number, got "two"')
  t.regex(
    await refused('--data', 'a', '--epochs', '1', '--max-steps', '2'),
    /--max-steps cannot be combined with --epochs: /,
  )
  t.regex(
    await refused('--data', 'a', '--checkpoints-keep', '2'),
    /--checkpoints-\.\.\. has no effect without --output: /,
  )
  t.regex(await refused('--data', 'a', '--shufle'), /unknown option '--shufle'/)
  t.regex(
    await refused('--data', 'a', '--config', join(folder, 'none.json')),
    /cannot read .*none\.json \(ENOENT\)/,
  )
  const wrong = config('wrong.json', '{"epohcs": 1}')
  t.is(await refused('--config', wrong), `${wrong}:1:2: unknown option epohcs; did you mean epochs?`)
  t.regex(await refused('--config', config('torn.json', '{\n"a": ]')), /torn\.json:2:6: not JSON: /)
  t.regex(await refused('--config', config('list.json', '[]')), /must hold one object of options/)
  await t.throwsAsync(parse('--epochs', '1'), { instanceOf: UsageError })
})
