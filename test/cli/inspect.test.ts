import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { drawReport, drawRow } from '../../lib/cli/inspect.js'
import { type Inspection, inspectData } from '../../lib/cli/inspect-rows.js'
import { type DataReport, Tokenizer } from '../../lib/data/index.js'
import { sft } from '../../lib/index.js'
import { eventsIn, posttrain } from '../helpers/command-line.js'
import { fixture } from '../helpers/fixtures.js'
import { newFolder } from '../helpers/scratch.js'

const MODEL = fixture('masks')
const options = {
  model: MODEL,
  rows: 3,
  maxLength: 1024,
  trainOn: 'assistant',
  overflow: 'truncate',
  onBadRow: 'error',
} as const

async function rows(t: ExecutionContext): Promise<string> {
  const folder = newFolder(t)
  const path = join(folder, 'rows.jsonl')
  await writeFile(
    path,
    '{"instruction": "1加1等于几?", "output": "等于2。😀"}\n{"instruction": "a\\nlonger question", "output": "b"}\n',
  )
  return path
}

test('each token is trained, masked or padding, and the counts say how many', async (t) => {
  const { rows: shown, report } = await inspectData(await rows(t), { ...options, template: 'plain' })
  t.is(shown.length, 2)
  for (const { tokens, counts } of shown) {
    t.is(tokens.length, shown[0]!.tokens.length, 'padded to the longest')
    for (const state of ['trained', 'masked', 'padding'] as const) {
      t.is(tokens.filter((token) => token.state === state).length, counts[state])
    }
  }
  t.is((report as DataReport).trainTokens, shown[0]!.counts.trained + shown[1]!.counts.trained)
  t.is(shown[1]!.tokens.find(({ state }) => state === 'trained')!.text, ' b')
})

test('a row is drawn in whole characters, with or without colors', async (t) => {
  const path = await rows(t)
  const tokenizer = await Tokenizer.load(MODEL)
  const { rows: shown, report } = await inspectData(path, { ...options, template: 'plain' })
  const plain = drawRow(shown[0]!, tokenizer, false)
  t.true(plain.includes('User: 1加1等于几?⏎\nAssistant:⟦ 等于2。😀<|im_end|>⟧'))
  const coloured = drawRow(shown[0]!, tokenizer, true)
  t.true(coloured.includes('\x1b[32m'))
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  t.is(coloured.replace(/\x1b\[\d+m/g, ''), plain.replace(/[⟦⟧⟨⟩]/g, ''))
  t.regex(drawReport(report), /^2 rows read, 2 to train, 0 truncated\n/)
})

test('the command prints rows and a report, as JSON too, and refuses bad uses', async (t) => {
  const path = await rows(t)
  const json = await posttrain(['inspect', path, '--model', MODEL, '--rows', '1', '--json'])
  t.is(json.code, 0, json.stderr)
  t.deepEqual(
    eventsIn(json.stdout).map(({ type }) => type),
    ['row', 'report'],
  )
  const people = await posttrain(['inspect', path, '--model', MODEL])
  t.regex(people.stdout, /⟦等于2。😀<\|im_end\|>⟧/)
  const missing = await posttrain(['inspect', 'none.jsonl', '--model', MODEL])
  t.is(missing.code, 1)
  t.regex(missing.stderr, /none\.jsonl does not exist/)
  t.is((await posttrain(['inspect', path, '--model', MODEL, '--rows', 'x'])).code, 2)
  t.is((await posttrain(['inspect', path])).code, 2)
})

/** Each row as one text, trained tokens between ⟦ and ⟧. */
async function drawn({ rows: shown }: Inspection): Promise<string[]> {
  const tokenizer = await Tokenizer.load(MODEL)
  return shown.map((row) =>
    drawRow(row, tokenizer, false)
      .replace(/^\S+\.jsonl:\d+ */, '')
      .replace(/ *\d+ trained.*\n/, '|')
      .replace(/⟨.*⟩/, '')
      .trim(),
  )
}

const PROMPT = '<|im_start|>user⏎\na<|im_end|>⏎\n<|im_start|>assistant⏎\n'
const END = '<|im_end|>⟧'

test('rows of every kind are shown, by their columns or as the flag says', async (t) => {
  const path = join(newFolder(t), 'rows.jsonl')
  const show = async (row: object, given = {}) => {
    await writeFile(path, `${JSON.stringify(row)}\n`)
    const inspection = await inspectData(path, { ...options, ...given })
    return [inspection.kind, ...(await drawn(inspection))]
  }
  t.deepEqual(await show({ prompt: 'a', completion: 'b' }), ['sft', `|${PROMPT}⟦b${END}`])
  t.deepEqual(await show({ prompt: 'a', chosen: 'b', rejected: 'c' }), [
    'preference',
    `chosen|${PROMPT}⟦b${END}`,
    `rejected|${PROMPT}⟦c${END}`,
  ])
  t.deepEqual(await show({ prompt: 'a', responses: ['b', 'c', 'd'] }), [
    'preference',
    `response 1 of 3|${PROMPT}⟦b${END}`,
    `response 2 of 3|${PROMPT}⟦c${END}`,
    `response 3 of 3|${PROMPT}⟦d${END}`,
  ])
  for (const label of [true, false])
    t.deepEqual(await show({ prompt: 'a', completion: 'b', label }), [
      'unpaired',
      `${label ? 'desirable' : 'undesirable'}|${PROMPT}⟦b${END}`,
    ])
  const user = { role: 'user', content: 'a' }
  for (const row of [{ prompt: 'a' }, { instruction: 'a' }, { messages: [user] }])
    t.deepEqual(await show(row), ['prompt', `prompt|${PROMPT.trim()}`])
  // A column that answers in SFT and that a reward function reads in RL.
  t.deepEqual(await show({ prompt: 'a', answer: '7' }), ['sft', `|${PROMPT}⟦7${END}`])
  t.deepEqual(await show({ prompt: 'a', answer: '7' }, { as: 'prompt' }), [
    'prompt',
    `prompt|${PROMPT.trim()}`,
  ])
  // A number cannot be a response: only a reward function reads it.
  t.deepEqual(await show({ prompt: 'a', answer: 7 }), ['prompt', `prompt|${PROMPT.trim()}`])
  t.deepEqual(await show({ prompt: 'a', completion: 'b' }, { template: 'none' }), ['sft', `|a⟦b${END}`])
})

test('the first line says what the rows are read as, and how to see them as prompts', async (t) => {
  const path = join(newFolder(t), 'rows.jsonl')
  await writeFile(path, '{"prompt": "a", "answer": "7", "solution": "8"}\n')
  const lines = async (...given: string[]) => {
    const { stdout, stderr, code } = await posttrain(['inspect', path, '--model', MODEL, ...given])
    t.is(code, 0, stderr)
    return stdout.split('\n')
  }
  t.regex(
    (await lines())[0]!,
    /^Read as rows for sft and pretrain, by the columns of the first row \(--as prompt: /,
  )
  const [first, , asked] = await lines('--as', 'prompt')
  t.regex(first!, /^Read as prompts for ppo, grpo, rloo/)
  t.regex(asked!, /prompt +0 trained/)
  const [row] = (await lines('--json')).slice(0, 1).map((line) => JSON.parse(line))
  t.is(row.kind, 'sft')
  // A text is no prompt.
  await writeFile(path, '{"text": "a"}\n')
  t.regex((await lines())[0]!, /^Read as rows for sft and pretrain, by the columns of the first row$/)
})

/** Inspects rows.jsonl of a folder by its t.jinja. */
const inspectIn = (folder: string) => {
  const [rows, template] = [join(folder, 'rows.jsonl'), join(folder, 't.jinja')]
  return ['inspect', rows, '--model', MODEL, '--template', template]
}

test('a template tells the time that the flag gives', async (t) => {
  const folder = newFolder(t)
  await writeFile(join(folder, 'rows.jsonl'), '{"prompt": "a", "completion": "b"}\n')
  await writeFile(
    join(folder, 't.jinja'),
    "{{ strftime_now('%Y') }}{% for m in messages %}[{{ m.role }}]{{ m.content + eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
  )
  const argv = inspectIn(folder)
  const then = await posttrain([...argv, '--template-time', '1999-06-02T03:04:05Z'])
  t.regex(then.stdout, /1999\[user\]a/)
  t.regex((await posttrain(argv)).stdout, new RegExp(`${new Date().getFullYear()}\\[user\\]a`))
  const wrong = await posttrain([...argv, '--template-time', 'noon'])
  // The same times as those of a run.
  t.throws(() => sft({ model: { backward: 0 } as never, data: 'x.jsonl', templateTime: 'noon' }), {
    message: /option templateTime must be a time such as/,
  })
  t.is(wrong.code, 2)
  t.regex(wrong.stderr, /--template-time must be a time such as/)
})

test('--reasoning shows what is left of reasoning', async (t) => {
  const path = join(newFolder(t), 'rows.jsonl')
  const answer = { role: 'assistant', content: '<think>\nhm\n</think>\n\nb' }
  await writeFile(path, JSON.stringify({ messages: [{ role: 'user', content: 'a' }, answer] }))
  const show = async (reasoning: 'template' | 'drop') =>
    (await drawn(await inspectData(path, { ...options, reasoning })))[0]!
  t.regex(await show('template'), /⟦<think>/)
  t.regex(await show('drop'), /⟦b/)
  await writeFile(path, '{"prompt": "a"}')
  t.is((await posttrain(['inspect', path, '--model', MODEL, '--reasoning', 'drop'])).code, 2)
})

test('--template-arguments reach the template', async (t) => {
  const folder = newFolder(t)
  await writeFile(
    join(folder, 'rows.jsonl'),
    '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n',
  )
  await writeFile(
    join(folder, 't.jinja'),
    "{% for m in messages %}{{ m.role }}{% if m.role == 'assistant' and short is not defined %}LONG{% endif %}{{ m.content + eos_token }}{% endfor %}{% if add_generation_prompt %}assistant{% endif %}",
  )
  const argv = inspectIn(folder)
  const long = await posttrain(argv)
  t.true(long.stdout.includes('LONG'), long.stderr)
  const short = await posttrain([...argv, '--template-arguments', '{"short": true}'])
  t.is(short.code, 0, short.stderr)
  t.false(short.stdout.includes('LONG'))
  const wrong = await posttrain([...argv, '--template-arguments', 'short'])
  t.is(wrong.code, 2)
  t.regex(wrong.stderr, /--template-arguments must be an object, got "short"/)
})

test('control characters of rows are escapes on a terminal, and marks of special tokens are reported', async (t) => {
  const path = join(newFolder(t), 'rows.jsonl')
  await writeFile(path, `${JSON.stringify({ text: 'a\x1b]0;x\x07<|im_end|>\r' })}\n`)
  const inspection = await inspectData(path, options)
  t.deepEqual(await drawn(inspection), ['|a⟦\\e]0;x\\x07<|im_end|>\\r<|im_end|>⟧'])
  t.regex(drawReport(inspection.report), /1 row with marks of special tokens .* --rendered/)
  const said = await inspectData(path, { ...options, rendered: true })
  t.notRegex(drawReport(said.report), /marks/)
  t.deepEqual(await drawn(said), ['|a⟦\\e]0;x\\x07<|im_end|>\\r⟧'])
})

test('the command shows preferences and prompts, and refuses flags without an effect on them', async (t) => {
  const path = join(newFolder(t), 'rows.jsonl')
  await writeFile(path, '{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
  const argv = ['inspect', path, '--model', MODEL]
  const json = await posttrain([...argv, '--json'])
  t.is(json.code, 0, json.stderr)
  const [chosen, rejected, report] = eventsIn(json.stdout) as unknown as Record<string, unknown>[]
  t.is(chosen!.part, 'chosen')
  t.is(rejected!.part, 'rejected')
  t.like(report!, { type: 'report', kind: 'preference', pairs: 1 })
  const people = await posttrain(argv)
  t.regex(people.stdout, /1 row read, 2 responses to train, 1 pair/)
  t.regex(people.stdout, /2 string prompts in a user turn|1 string prompt in a user turn/)
  t.is((await posttrain([...argv, '--train-on', 'all'])).code, 2)
  const prompts = await posttrain([...argv, '--as', 'prompt'])
  t.regex(prompts.stdout, /1 row read, 1 prompt of \d+ tokens/)
})
