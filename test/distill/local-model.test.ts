import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { distill } from '../../lib/distill/distill.js'
import type { DistillEvent } from '../../lib/distill/events.js'
import { CausalLM } from '../../lib/models/causal-lm.js'
import { sft } from '../../lib/train/sft.js'
import { posttrain } from '../helpers/command-line.js'
import { cleanFolder, newFolder } from '../helpers/scratch.js'
import { tinyModel } from '../helpers/tiny-training.js'

const folder = join(newFolder(), 'model')
const lessons = [
  { instruction: 'cat?', output: 'Mimi' },
  { instruction: 'sky?', output: 'blue' },
]

test.before(async () => {
  await using tiny = await tinyModel()
  const how = { template: 'plain', epochs: 80, learningRate: 1e-2, schedule: 'constant' } as const
  await sft({ model: tiny, data: lessons, ...how }).finish()
  await tiny.save(folder)
})

const linesOf = (path: string) =>
  readFileSync(path, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))

test('a model folder answers in batches, and what is too long for it does not take the others with it', async (t) => {
  const output = `${cleanFolder(t)}.jsonl`
  const data = [{ instruction: 'x'.repeat(300) }, { instruction: 'cat?' }, { instruction: 'sky?' }]
  const events: DistillEvent[] = []
  for await (const event of distill({ data, output, model: folder, temperature: 0, maxNewTokens: 16 }))
    events.push(event)
  t.deepEqual(
    linesOf(output)
      .map(({ instruction, output }) => ({ instruction, output }))
      .toSorted((a, b) => a.instruction.localeCompare(b.instruction)),
    lessons,
  )
  const failure = events.find((event) => event.type === 'failure')
  t.regex(failure!.reason, /leaves no room in the model's context of 256/)
  t.like(events.at(-1), { rows: 2, failed: 1, requests: 3, retries: 0 })
  t.is((events.at(-1) as { completionTokens: number }).completionTokens, 12)
})

test('a loaded model stays usable; at temperature 0 it is not asked twice, above it is', async (t) => {
  await using model = await CausalLM.load(folder)
  const data = [{ instruction: 'cat?' }]
  const cut = { data, model, maxNewTokens: 2, retries: 3 }
  t.like(await distill({ ...cut, output: `${cleanFolder(t)}.jsonl`, temperature: 0 }).finish(), {
    failed: 1,
    requests: 1,
  })
  t.like(await distill({ ...cut, output: `${cleanFolder(t)}.jsonl` }).finish(), { failed: 1, requests: 4 })
  t.is(model.contextLength, 256)
  await using plain = await tinyModel()
  const output = `${cleanFolder(t)}.jsonl`
  await t.throwsAsync(distill({ data, model: plain, output }).finish(), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /the model has no chat template/,
  })
  t.throws(() => distill({ data, model, output, timeoutMs: 5 }), {
    message: /timeoutMs has no effect without endpoint/,
  })
})

test('a signal ends a generation that is under way', async (t) => {
  await using model = await CausalLM.load(folder)
  const abort = new AbortController()
  const data = Array.from({ length: 200 }, (_, i) => ({ instruction: `${i}` }))
  const how = { maxNewTokens: 200, temperature: 2, signal: abort.signal, concurrency: 1 }
  const run = distill({ data, model, output: `${cleanFolder(t)}.jsonl`, ...how })
  setTimeout(() => abort.abort(), 50)
  await t.throwsAsync(run.finish(), { name: 'AbortError' })
})

test('the command with a model folder', async (t) => {
  const output = `${cleanFolder(t)}.jsonl`
  const data = join(folder, '..', 'seeds.txt')
  writeFileSync(data, 'cat?\n\nsky?\n')
  const argv = [
    'distill',
    '--model',
    folder,
    '--data',
    data,
    '--output',
    output,
    '--temperature',
    '0',
    '--threads',
    '1',
  ]
  const { code, stderr } = await posttrain(argv)
  t.is(code, 0, stderr)
  t.is(linesOf(output).length, 2)
  const missing = await posttrain(argv.with(2, `${folder}-none`).with(6, `${output}l.jsonl`))
  t.is(missing.code, 1)
  t.regex(missing.stderr, /does not exist/)
})
