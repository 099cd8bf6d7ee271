import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { drawReport, drawRow, inspectData } from '../../lib/cli/inspect.js'
import { Tokenizer } from '../../lib/data/index.js'
import { eventsIn, posttrain } from '../helpers/command-line.js'
import { newFolder } from '../helpers/scratch.js'

const MODEL = join('test', 'fixtures', 'masks')
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
  t.is(report.trainTokens, shown[0]!.counts.trained + shown[1]!.counts.trained)
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
