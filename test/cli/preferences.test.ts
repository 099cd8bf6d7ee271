import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { Command } from 'commander'
import { addFlags, readFlags } from '../../lib/cli/flags.js'
import { commandOptions } from '../../lib/cli/train.js'
import { CausalLM, RewardModel } from '../../lib/index.js'
import type { OptionSet } from '../../lib/options/option.js'
import { pretrainOptions, sftOptions } from '../../lib/train/options/fields.js'
import { grpoOptions, rlooOptions } from '../../lib/train/options/group.js'
import { ppoOptions } from '../../lib/train/options/ppo.js'
import { dpoOptions, rewardOptions } from '../../lib/train/options/preference.js'
import { close } from '../helpers/close.js'
import { eventsIn, posttrain } from '../helpers/command-line.js'
import { fixture } from '../helpers/fixtures.js'
import { rankings } from '../helpers/preference-runs.js'
import { newFolder } from '../helpers/scratch.js'
import { tinyModel } from '../helpers/tiny-training.js'

const folder = newFolder()
const model = join(folder, 'model')
const data = join(folder, 'rankings.jsonl')
const machine = ['--model', model, '--threads', '1']
const training = [...machine, '--data', data, '--template', 'plain', '--batch-size', '4', '--json']
const lines = (rows: object[]) => rows.map((row) => JSON.stringify(row)).join('\n')

test.before(async () => {
  await using tiny = await tinyModel()
  await tiny.save(model)
  writeFileSync(data, lines(rankings(12)))
})

test('every recipe takes --lora-rank and its like', async (t) => {
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
    const set = commandOptions(recipe)
    const command = addFlags(new Command(recipe.name), set).action(() => undefined)
    const argv = [
      '--model',
      'm',
      '--data',
      'd',
      '--lora-rank',
      '4',
      '--lora-alpha',
      '2',
      '--lora-target-modules',
      'q_proj',
    ]
    const more = 'reward' in recipe.schema().shape ? ['--reward', 'r.js'] : []
    await command.parseAsync([...argv, ...more], { from: 'user' })
    const { lora } = (await readFlags(command, set)).given
    t.deepEqual(lora, { rank: 4, alpha: 2, targetModules: ['q_proj'] }, recipe.name)
  }
})

test('reward: an adapter with its head is trained, and merge makes a classifier with its scores', async (t) => {
  const [output, merged] = [join(folder, 'reward'), join(folder, 'judge')]
  const run = await posttrain([
    'reward',
    ...training,
    '--lora-rank',
    '2',
    '--center',
    '0.01',
    '--output',
    output,
  ])
  t.is(run.code, 0, run.stderr)
  const [start, ...events] = eventsIn(run.stdout)
  t.like(start, { type: 'start', totalSteps: 3 })
  const steps = events.filter(({ type }) => type === 'step')
  t.is(steps.length, 3)
  for (const name of ['accuracy', 'margin', 'meanReward', 'minReward', 'maxReward'])
    t.is(typeof steps[0]![name], 'number', name)
  const adapter = join(output, 'adapter')
  t.like(events.at(-1), { type: 'end', model: adapter })
  const argv = ['merge', '--model', model, '--adapter', adapter]
  const refused = await posttrain([...argv, '--output', merged])
  t.is(refused.code, 1)
  t.regex(refused.stderr, /set --pad-token to a token/)
  const merging = await posttrain([...argv, '--pad-token', 'Ā', '--output', merged])
  t.is(merging.code, 0, merging.stderr)
  await using judge = await RewardModel.load(merged)
  await using adapted = await RewardModel.load(adapter)
  const texts = ['Q1: yes', 'Q1: no'].map((text) => judge.tokenizer.encode(text))
  close(t, await judge.scores(texts), await adapted.scores(texts), { absolute: 1e-5 })

  // An adapter of it, and the classifier itself, are trained further.
  const further = join(folder, 'further')
  const again = await posttrain([
    'reward',
    ...training,
    '--adapter',
    adapter,
    '--max-steps',
    '1',
    '--output',
    further,
  ])
  t.is(again.code, 0, again.stderr)
  const own = [
    'reward',
    '--model',
    merged,
    '--threads',
    '1',
    '--data',
    data,
    '--max-steps',
    '1',
    '--quiet',
    '--pad-token',
    'Ā',
  ]
  const last = await posttrain(own)
  t.is(last.code, 0, last.stderr)
})

test('dpo: an adapter is trained, dpo again trains it further, and merge makes a plain model with its logits', async (t) => {
  const [output, second, merged] = ['dpo', 'second', 'merged'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  const run = await posttrain([
    'dpo',
    ...training,
    '--lora-rank',
    '2',
    '--learning-rate',
    '1e-2',
    '--output',
    output,
  ])
  t.is(run.code, 0, run.stderr)
  const losses = (stdout: string) =>
    eventsIn(stdout)
      .filter(({ type }) => type === 'step')
      .map(({ loss }) => loss as number)
  t.is(losses(run.stdout)[0], Math.LN2)
  t.is(losses(run.stdout).length, 3)
  const adapter = join(output, 'adapter')
  const again = await posttrain([
    'dpo',
    ...training,
    '--adapter',
    adapter,
    '--loss',
    'ipo',
    '--output',
    second,
  ])
  t.is(again.code, 0, again.stderr)
  // IPO's first loss is (1 / (2 beta))², whatever the start.
  close(t, losses(again.stdout)[0]!, 25, { absolute: 1e-9 })
  const merging = await posttrain([
    'merge',
    '--model',
    model,
    '--adapter',
    join(second, 'adapter'),
    '--output',
    merged,
  ])
  t.is(merging.code, 0, merging.stderr)
  await using plain = await CausalLM.load(merged)
  await using adapted = await CausalLM.load(model)
  await adapted.loadAdapter('second', join(second, 'adapter'))
  const inputIds = plain.tokenizer.encode('Q1: yes')
  const batch = { inputIds, offsets: Int32Array.of(0, inputIds.length) }
  close(t, await plain.logits(batch), await adapted.logits(batch), { absolute: 1e-5 })
})

test('dpo --loss cpo trains without a reference, its cross-entropy included; the help says what each loss is', async (t) => {
  const output = join(folder, 'cpo')
  const run = await posttrain(['dpo', ...training, '--loss', 'cpo', '--output', output])
  t.is(run.code, 0, run.stderr)
  const events = eventsIn(run.stdout)
  const steps = events.filter(({ type }) => type === 'step')
  t.is(steps.length, 3)
  // The rows differ in their length alone at first: their loss is above ln 2 by the cross-entropy of 257 bytes.
  t.true((steps[0]!.loss as number) > 3, `${steps[0]!.loss}`)
  for (const name of ['accuracy', 'chosenReward', 'chosenLength'])
    t.is(typeof steps[0]![name], 'number', name)
  t.like(events.at(-1), { type: 'end', reason: 'completed', model: join(output, 'model') })
  const help = await posttrain(['dpo', '--help'])
  t.regex(help.stdout, /Values of --loss:\n\s+sigmoid\s+DPO\n/)
  t.regex(help.stdout, /\n\s+cpo\s+CPO: /)
  t.regex(help.stdout, /\n\s+kto\s+KTO: /)
})

test('what cannot be is said in one sentence: adapters of other bases and tasks, damaged ones, rows without fields', async (t) => {
  const fails = async (expected: number, sentence: RegExp, ...argv: string[]) => {
    const { code, stdout, stderr } = await posttrain([...argv, '--quiet'])
    t.is(code, expected, stderr)
    t.is(stdout, '')
    t.regex(stderr, sentence)
    t.is(stderr.trim().split('\n').length, 1, stderr)
  }
  const dpo = ['dpo', ...machine, '--data', data]
  await fails(1, /belongs to another base/, ...dpo, '--adapter', fixture('adapters/llama'))
  const torn = join(folder, 'torn')
  cpSync(fixture('adapters/llama'), torn, { recursive: true })
  const file = join(torn, 'adapter_model.safetensors')
  writeFileSync(file, readFileSync(file).subarray(0, -100))
  await fails(1, /truncated or damaged/, ...dpo, '--adapter', torn)
  const bad = join(folder, 'bad.jsonl')
  writeFileSync(bad, `${lines(rankings(2))}\n{"prompt": "P:", "chosen": "a"}`)
  await fails(1, /bad\.jsonl:3: rejected is missing/, 'dpo', ...machine, '--data', bad)
  await fails(
    1,
    /bad\.jsonl:3: label must be true or false/,
    'dpo',
    ...machine,
    '--data',
    bad,
    '--loss',
    'kto',
  )
  await fails(2, /--gamma has an effect only with --loss simpo/, ...dpo, '--gamma', '1')
})
