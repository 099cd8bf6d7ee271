import test from 'ava'
import { Command } from 'commander'
import type * as z from 'zod'
import { addFlags, readFlags } from '../../lib/cli/flags.js'
import { commandOptions } from '../../lib/cli/train.js'
import { flagsOf, kebab } from '../../lib/options/flags.js'
import { describe, type OptionSet } from '../../lib/options/option.js'
import { optionPaths } from '../../lib/options/validate.js'
import { pretrainOptions, sftOptions } from '../../lib/train/options/fields.js'
import { grpoOptions, rlooOptions } from '../../lib/train/options/group.js'
import { ppoOptions } from '../../lib/train/options/ppo.js'
import { dpoOptions, rewardOptions } from '../../lib/train/options/preference.js'
import { MACHINE_FLAGS } from '../helpers/command-line.js'

// What only a program can give.
const PROGRAM = ['signal', 'reference', 'critic']

const recipes: OptionSet[] = [
  sftOptions,
  pretrainOptions,
  rewardOptions,
  dpoOptions,
  ppoOptions,
  grpoOptions,
  rlooOptions,
]
for (const recipe of recipes) {
  test(`${recipe.name}: each option but the signal has its flag, and each flag its option`, (t) => {
    const flags = flagsOf(commandOptions(recipe).schema()).map(({ name }) => name)
    const options = optionPaths(recipe.schema()).map((path) => path.split('.').map(kebab).join('-'))
    const machine = [...MACHINE_FLAGS, 'lora']
    if (options.includes('early-stopping-patience')) machine.push('early-stopping')
    t.deepEqual(
      flags.toSorted(),
      [...options.filter((name) => !PROGRAM.includes(name)), ...machine].toSorted(),
    )
    for (const [name, field] of Object.entries(recipe.schema().shape))
      t.truthy(describe(field as z.ZodType)?.text, name)
  })
}

test('data and validation as people type them', async (t) => {
  const parse = async (...argv: string[]) => {
    const set = commandOptions(sftOptions)
    const command = addFlags(new Command('sft'), set).action(() => undefined)
    await command.parseAsync(['--model', 'm', ...argv], { from: 'user' })
    return (await readFlags(command, set)).given
  }
  t.is((await parse('--data', 'a.jsonl')).data, 'a.jsonl')
  t.is((await parse('--data', 'a=b.jsonl')).data, 'a=b.jsonl')
  t.deepEqual((await parse('--data', 'a.jsonl', '--data', 'b.txt=0.25')).data, [
    { data: 'a.jsonl', weight: 1 },
    { data: 'b.txt', weight: 0.25 },
  ])
  t.deepEqual((await parse('--data', 'a', '--validation', '0.05')).validation, { fraction: 0.05 })
  t.is((await parse('--data', 'a', '--validation', 'v.jsonl')).validation, 'v.jsonl')
})
