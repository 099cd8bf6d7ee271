import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import { CausalLM } from '../../lib/index.js'
import { cleanFolder } from '../helpers/scratch.js'
import { instructionRows, tinyModel } from '../helpers/tiny-training.js'
import { byteTokenizer } from '../helpers/tokenizers.js'

const example = (name: string) => fileURLToPath(new URL(`../../examples/${name}.js`, import.meta.url))
const node = (...argv: string[]) => promisify(execFile)(process.execPath, argv)

/** A folder with a tiny model and a file of rows, and where a run may go. */
async function prepared(t: ExecutionContext, rows: object[]) {
  const output = cleanFolder(t)
  const [model, data] = [join(dirname(output), 'model'), join(dirname(output), 'rows.jsonl')]
  await using tiny = await tinyModel()
  await tiny.save(model)
  writeFileSync(data, rows.map((row) => JSON.stringify(row)).join('\n'))
  return { model, data, output }
}

const rankings = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    instruction: `Say ${i}.`,
    chosen: `yes ${i}`,
    rejected: `no ${i}`,
  }))
const numbersOf = (stdout: string, pattern: RegExp) =>
  [...stdout.matchAll(pattern)].map(([, value]) => Number(value))

test('examples/sft.ts trains and answers', async (t) => {
  const output = cleanFolder(t)
  const [model, data] = [join(dirname(output), 'model'), join(dirname(output), 'rows.jsonl')]
  await using tiny = await tinyModel()
  await tiny.save(model)
  writeFileSync(
    data,
    instructionRows(40)
      .map((row) => JSON.stringify(row))
      .join('\n'),
  )
  const { stdout, stderr } = await node(example('sft'), model, data, output)
  t.is(stderr, '')
  t.regex(stdout, /^36 rows|^40 rows/)
  t.regex(stdout, /step 10: loss \d.*\n/)
  t.regex(stdout, /\nafter: .*\nbest validation loss \d/s)
  t.true(existsSync(join(output, 'model/model.safetensors')))
})

test('examples/pretrain.ts trains from random weights', async (t) => {
  const output = cleanFolder(t)
  const [tokenizer, data] = [join(dirname(output), 'tokenizer'), join(dirname(output), 'corpus.jsonl')]
  mkdirSync(tokenizer)
  await byteTokenizer().save(tokenizer)
  const rows = Array.from({ length: 64 }, (_, i) =>
    JSON.stringify({ text: `The number ${i} comes after ${i - 1}.` }),
  )
  writeFileSync(data, rows.join('\n'))
  const { stdout, stderr } = await node(example('pretrain'), tokenizer, data, output)
  t.is(stderr, '')
  const losses = [...stdout.matchAll(/loss ([\d.]+)/g)].map(([, loss]) => Number(loss))
  t.is(losses.length, 16)
  t.true(losses.at(-1)! < losses[0]! - 0.5, stdout)
  t.regex(stdout, /\nThe/)
})

test('examples/textbook-loop.ts learns the textbook’s rows, and tells both means', async (t) => {
  const model = join(dirname(cleanFolder(t)), 'model')
  await using tiny = await tinyModel()
  await tiny.save(model)
  const { stdout, stderr } = await node(example('textbook-loop'), model, '60')
  t.is(stderr, '')
  const losses = [...stdout.matchAll(/loss ([\d.]+) \(mean of batches\), ([\d.]+) \(mean of tokens\)/g)]
  t.is(losses.length, 60)
  // One batch has three rows and one has one, so the two means differ.
  t.true(losses.some(([, batches, tokens]) => batches !== tokens))
  t.true(Number(losses.at(-1)![2]) < 0.3 * Number(losses[0]![2]), stdout)
})

test('examples/lora.ts trains an adapter and merges it', async (t) => {
  const { model, data, output } = await prepared(t, instructionRows(40))
  const { stdout, stderr } = await node(example('lora'), model, data, output, '2')
  t.is(stderr, '')
  const [, trained, all] = /^(\d+) of (\d+) parameters are trained/.exec(stdout)!
  t.true(Number(trained) < Number(all))
  t.regex(stdout, /step 20: loss \d/)
  t.true(existsSync(join(output, 'adapter/adapter_model.safetensors')))
  // What was merged is the base and the adapter.
  await using base = await CausalLM.load(model)
  await base.loadAdapter('trained', join(output, 'adapter'))
  await using merged = await CausalLM.load(join(output, 'merged'))
  const inputIds = merged.tokenizer.encode('User: 1+1=?')
  const offsets = Int32Array.of(0, inputIds.length)
  const [a, b] = [await base.logits({ inputIds, offsets }), await merged.logits({ inputIds, offsets })]
  t.true(a.every((value, i) => Math.abs(value - b[i]!) < 1e-5))
  await base.setAdapter(null)
  t.notDeepEqual(await base.logits({ inputIds, offsets }), b)
})

test('examples/reward.ts trains a reward model, and examples/ppo.ts an actor with it, all on one base', async (t) => {
  const { model, data, output } = await prepared(t, rankings(100))
  const { stdout, stderr } = await node(example('reward'), model, data, output, '2')
  t.is(stderr, '')
  const margins = numbersOf(stdout, /step \d+: loss [\d.]+, margin (-?[\d.]+)/g)
  t.is(margins.length, 2)
  t.true(margins[1]! > margins[0]!, stdout)
  t.regex(stdout, /accuracy on held-out pairs: 100 %\nscore -?\d+\.\d\d: .*reward model in /s)

  const [judge, actor] = [join(output, 'adapter'), join(dirname(output), 'ppo')]
  const ppo = await node(example('ppo'), model, judge, data, actor, '2')
  t.is(ppo.stderr, '')
  t.is(numbersOf(ppo.stdout, /iteration \d+: score (-?[\d.]+), KL -?[\d.]+, length [\d.]+/g).length, 2)
  t.true(existsSync(join(actor, 'adapter/adapter_model.safetensors')))
})

test('examples/alignment.ts goes from rows and rankings to an actor that scores better', async (t) => {
  const { model, data, output } = await prepared(t, rankings(60))
  const rows = join(dirname(output), 'answers.jsonl')
  const answer = (i: number) =>
    JSON.stringify({ instruction: `Say ${i}.`, output: `${i % 2 ? 'yes' : 'no'} ${i}` })
  writeFileSync(rows, Array.from({ length: 60 }, (_, i) => answer(i)).join('\n'))
  const argv = [model, rows, data, output, '16', '1e-2']
  const { stdout, stderr } = await node(example('alignment'), ...argv)
  t.is(stderr, '')
  t.regex(stdout, /^accuracy on held-out pairs: 100 %\n/)
  const scores = numbersOf(stdout, /iteration \d+: score (-?[\d.]+), KL -?[\d.]+/g)
  t.is(scores.length, 16)
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
  t.true(mean(scores.slice(-8)) > mean(scores.slice(0, 4)) + 0.3, stdout)
  // The actor's adapter stands on the model of the first stage.
  await using actor = await CausalLM.load(join(output, 'sft/model'))
  await actor.loadAdapter('ppo', join(output, 'ppo/adapter'))
  t.true(existsSync(join(output, 'reward/adapter/adapter_model.safetensors')))
})

test('examples/dpo.ts comes to prefer the chosen responses', async (t) => {
  const { model, data, output } = await prepared(t, rankings(100))
  const { stdout, stderr } = await node(example('dpo'), model, data, output, '2')
  t.is(stderr, '')
  const losses = numbersOf(stdout, /validation loss ([\d.]+)/g)
  t.true(losses[1]! < losses[0]!, stdout)
  t.true(existsSync(join(output, 'adapter/adapter_model.safetensors')))
})

test('examples/grpo.ts trains by a function', async (t) => {
  const { model, data, output } = await prepared(t, rankings(8))
  const { stdout, stderr } = await node(example('grpo'), model, data, output, '3')
  t.is(stderr, '')
  t.is(numbersOf(stdout, /iteration \d+: score ([\d.]+), KL -?[\d.]+/g).length, 3)
  t.true(existsSync(join(output, 'adapter/adapter_model.safetensors')))
})
