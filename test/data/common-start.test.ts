import { readFileSync } from 'node:fs'
import test from 'ava'
import {
  type DataSource,
  loadPreferences,
  loadUnpaired,
  readPreference,
  readPrompt,
  Tokenizer,
} from '../../lib/data/index.js'
import { chat, options } from '../helpers/response-rows.js'

const cases = JSON.parse(readFileSync('test/fixtures/rows/common-start.json', 'utf8')) as [
  chosen: string,
  rejected: string,
  expected: { prompt: string; chosen: string; rejected: string },
][]
const origin = { source: 'rows.jsonl', line: 7 }

test('texts that hold a whole dialog each are cut at the end of their common start, as TRL cuts them', (t) => {
  t.true(cases.length > 5)
  for (const [chosen, rejected, { prompt, ...ends }] of cases) {
    const { responses } = readPreference({ chosen, rejected }, origin)
    const expected = [ends.chosen, ends.rejected].map((completion) => ({ prompt, completion }))
    t.like(responses, expected as never, JSON.stringify([chosen, rejected]))
    t.like(readPrompt({ chosen, rejected }, origin), { text: prompt, dialog: true })
  }
})

const apart = JSON.parse(readFileSync('test/fixtures/rows/apart.json', 'utf8')) as {
  row: { chosen: unknown; rejected: unknown }
  ids: number[][]
}[]

test("a reward model's pairs that share no start are scored whole, with the ids of TRL's RewardTrainer", async (t) => {
  const tokenizer = Tokenizer.fromFiles({
    tokenizerJson: readFileSync('test/fixtures/tokenizers/qwen.json', 'utf8'),
    tokenizerConfig: JSON.stringify({ eos_token: '<|end|>' }),
  })
  const reading = { ...options, tokenizer, template: chat, strings: 'turn' as const }
  const rows = apart.map(({ row }) => row) as DataSource
  const { train } = await loadPreferences(rows, { ...reading, apart: true })
  t.like(train.report, { pairs: apart.length, apart: apart.length, jointDiffers: 0 })
  for (const [i, { row, ids }] of apart.entries()) {
    for (const [side, expected] of ids.entries()) {
      const { inputIds } = await train.store.read(2 * i + side)
      // The template writes a line end behind the last turn, which no row has.
      const end =
        typeof row.chosen === 'string' ? expected.length : expected.lastIndexOf(tokenizer.eosId!) + 1
      t.deepEqual([...inputIds], expected.slice(0, end), JSON.stringify(row))
    }
    await t.throwsAsync(loadPreferences([row] as DataSource, reading), { code: 'ERR_DATA' })
    await t.throwsAsync(loadUnpaired([row] as DataSource, reading), { code: 'ERR_DATA' })
  }
  const shared = [
    { prompt: 'a', chosen: ' b', rejected: ' c' },
    { chosen: 'a b', rejected: 'a c' },
  ]
  const [plain, other] = await Promise.all([
    loadPreferences(shared, reading),
    loadPreferences(shared, { ...reading, apart: true }),
  ])
  t.is(plain.train.hash, other.train.hash)
  t.is(other.train.report.apart, 0)
})

test('texts without a common start have no prompt', (t) => {
  for (const [chosen, rejected] of [
    ['Oak.', 'Elm.'],
    ['Oak ', 'Elm '],
    ['', 'Elm'],
    ['a', 'a'],
  ])
    t.throws(() => readPreference({ chosen, rejected }, origin), {
      code: 'ERR_DATA',
      message: /^rows\.jsonl:7: prompt is missing, and chosen and rejected have no common start/,
    })
})
