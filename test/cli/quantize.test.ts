import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { CausalLM } from '../../lib/index.js'
import { eventsIn, posttrain } from '../helpers/command-line.js'
import { fixture } from '../helpers/fixtures.js'
import { newFolder } from '../helpers/scratch.js'
import { instructionRows, tinyModel } from '../helpers/tiny-training.js'

const folder = newFolder()
const model = join(folder, 'model')
const data = join(folder, 'rows.jsonl')
const argv = ['--model', model, '--threads', '1', '--data', data, '--template', 'none', '--json']

test.before(async () => {
  await using tiny = await tinyModel()
  await tiny.save(model)
  writeFileSync(
    data,
    instructionRows(8)
      .map((row) => JSON.stringify(row))
      .join('\n'),
  )
})

test('an adapter is trained upon 4 bits, resumed only so, and merged into the base with a check', async (t) => {
  const output = join(folder, 'run')
  const training = [
    'sft',
    ...argv,
    '--lora',
    '--output',
    output,
    '--checkpoints-every-steps',
    '2',
    '--max-steps',
  ]
  const first = await posttrain([...training, '2', '--quantize', 'nf4'])
  t.is(first.code, 0, first.stderr)
  const { model: recorded } = JSON.parse(readFileSync(join(output, 'config.json'), 'utf8'))
  t.like(recorded, { dtype: 'float32', quantize: 'nf4' })

  const other = await posttrain([...training, '4', '--resume'])
  t.is(other.code, 1)
  t.regex(other.stderr, /quantize was "nf4" and is not given now/)
  const more = await posttrain([...training, '4', '--resume', '--quantize', 'nf4'])
  t.is(more.code, 0, more.stderr)
  t.like(eventsIn(more.stdout).at(-1), { type: 'end', model: join(output, 'adapter') })

  const merge = ['merge', '--model', model, '--adapter', join(output, 'adapter')]
  const merged = join(folder, 'merged')
  const checked = await posttrain([...merge, '--output', merged, '--check', '--quantize', 'nf4'])
  t.is(checked.code, 0, checked.stderr)
  t.is(checked.stdout, `${merged}\n`)
  const [onBase, onQuantized] = [
    ...checked.stderr.matchAll(/adapter on (?:its|the) base.*?: at most ([\d.e-]+),/g),
  ].map(([, difference]) => Number(difference))
  t.true(onBase! < 1e-4, checked.stderr)
  t.true(onQuantized! > 1e-3 && onQuantized! < 1, checked.stderr)
  t.regex(checked.stderr, /the most likely token is the same at \d+ of \d+ places\n.*in 4 bits/)
  await (await CausalLM.load(merged)).dispose()

  const idle = await posttrain([...merge, '--output', join(folder, 'other'), '--quantize', 'nf4'])
  t.is(idle.code, 2)
  t.regex(idle.stderr, /--quantize has no effect without --check/)
})

test('all weights in 4 bits are refused before any step, by estimate too', async (t) => {
  const run = await posttrain(['sft', ...argv, '--quantize', 'nf4', '--max-steps', '1'])
  t.is(run.code, 1)
  t.regex(run.stderr, /train an adapter upon them with lora/)
  const counted = await posttrain(['estimate', 'sft', '--model', model, '--quantize', 'nf4'])
  t.is(counted.code, 1)
  t.regex(counted.stderr, /weights in 4 bits are frozen: add lora/)
})

test('a folder in 4 bits is trained upon as it is, and an adapter is not merged into it', async (t) => {
  const base = join(folder, 'bnb')
  cpSync(fixture('nf4', 'double'), base, { recursive: true })
  for (const file of ['tokenizer.json', 'tokenizer_config.json'])
    cpSync(fixture('models', 'llama', file), join(base, file))
  const merged = await posttrain([
    'merge',
    '--model',
    base,
    '--adapter',
    fixture('nf4', 'adapter'),
    '--output',
    join(folder, 'not-merged'),
  ])
  t.is(merged.code, 1)
  t.regex(merged.stderr, /cannot be merged into weights in 4 bits: save it, load the base in 16 bits or more/)
  const counted = await posttrain(['estimate', 'sft', '--model', base, '--lora', '--json'])
  t.is(counted.code, 0, counted.stderr)
})
