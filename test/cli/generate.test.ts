import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { sft } from '../../lib/train/sft.js'
import { mainProgram, runNode } from '../helpers/child.js'
import { posttrain } from '../helpers/command-line.js'
import { newFolder } from '../helpers/scratch.js'
import { tinyModel } from '../helpers/tiny-training.js'

const folder = newFolder()
const model = join(folder, 'model')

test.before(async () => {
  await using tiny = await tinyModel()
  const data = [
    { instruction: 'cat?', output: 'Mimi' },
    { instruction: 'sky?', output: 'blue' },
  ]
  await sft({
    model: tiny,
    data,
    template: 'plain',
    epochs: 80,
    learningRate: 1e-2,
    schedule: 'constant',
  }).finish()
  await tiny.save(model)
})

test('prompts from flags and from files, as text and as JSON', async (t) => {
  const said = await posttrain(['generate', '--model', model, '--prompt', 'cat?', '--prompt', 'sky?'])
  t.is(said.stdout, ' Mimi\n blue\n', said.stderr)
  t.is(said.code, 0)
  const path = join(folder, 'prompts.jsonl')
  writeFileSync(path, '{"instruction": "sky?"}\n{"prompt": "cat?"}\n')
  const { stdout } = await posttrain([
    'generate',
    '--model',
    model,
    '--prompts',
    path,
    '--json',
    '--log-probs',
  ])
  const rows = stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))
  t.deepEqual(
    rows.map(({ text, finishReason }) => [text, finishReason]),
    [
      [' blue', 'stop'],
      [' Mimi', 'stop'],
    ],
  )
  t.is(rows[0].logProbs.length, rows[0].tokenIds.length)
  t.deepEqual(
    rows.map(({ prompt }) => prompt),
    [[{ role: 'user', content: 'sky?' }], 'cat?'],
  )
  // A text that holds its turns already.
  const argv = ['generate', '--model', model, '--prompt', 'User: cat?\nAssistant:', '--max-new-tokens', '6']
  t.is((await posttrain([...argv, '--template', 'none'])).stdout, ' Mimi\n')
  t.is((await posttrain([...argv, '--rendered'])).stdout, ' Mimi\n')
  t.not((await posttrain(argv)).stdout, ' Mimi\n')
})

test('a row of a file is shown as it was given, and must be text', async (t) => {
  const file = join(folder, 'calls.jsonl')
  const call = '{"function": {"name": "f", "arguments": {"id": 1234567890123456789}}}'
  const user = '{"role": "user", "content": [{"type": "text", "text": "cat?"}]}'
  writeFileSync(file, `{"prompt": [${user}, {"role": "assistant", "tool_calls": [${call}]}, ${user}]}\n`)
  const given = ['generate', '--model', model, '--prompts', file, '--max-new-tokens', '1', '--json']
  const { code, stdout, stderr } = await posttrain(given)
  t.is(code, 0, stderr)
  const { prompt } = JSON.parse(stdout) as { prompt: Record<string, unknown>[] }
  t.deepEqual(prompt[0], { role: 'user', content: 'cat?' })
  t.deepEqual(prompt[1]?.tool_calls, [{ function: { name: 'f', arguments: { id: 1234567890123456800 } } }])
  writeFileSync(file, '{"text": "a \\ud83d"}\n')
  t.regex((await posttrain(given)).stderr, /calls\.jsonl:1: text has half of a surrogate pair/)
})

test('wrong use of generate', async (t) => {
  const fails = async (code: number, sentence: RegExp, ...argv: string[]) => {
    const ended = await posttrain(['generate', '--model', model, ...argv])
    t.is(ended.code, code)
    t.regex(ended.stderr, sentence)
  }
  await fails(2, /--prompt TEXT or --prompts FILE is required/)
  await fails(2, /--prompts cannot be combined with --prompt: /, '--prompt', 'a', '--prompts', 'b')
  await fails(2, /--top-k has no effect at temperature 0/, '--prompt', 'a', '--top-k', '3')
  await fails(2, /--temperature must be at least 0, got -1/, '--prompt', 'a', '--temperature', '-1')
  await fails(1, /none\.jsonl/, '--prompts', join(folder, 'none.jsonl'))
})

test('chat answers each line and ends with the input', async (t) => {
  const { code, stdout } = await runNode([mainProgram, 'chat', '--model', model, '--max-new-tokens', '8'], {
    input: 'cat?\n',
  })
  t.is(code, 0)
  t.is(stdout, ' Mimi\n')
})
