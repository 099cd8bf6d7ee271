import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { byteTokenizer, cleanFolder, instructionRows, tinyModel } from '../helpers/tiny-training.js'

const example = (name: string) => fileURLToPath(new URL(`../../examples/${name}.js`, import.meta.url))
const node = (...argv: string[]) => promisify(execFile)(process.execPath, argv)

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
