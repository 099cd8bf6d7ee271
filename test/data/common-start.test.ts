import { readFileSync } from 'node:fs'
import test from 'ava'
import { readPreference, readPrompt } from '../../lib/data/index.js'

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
