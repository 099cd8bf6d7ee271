import { readFileSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { readPreference } from '../../lib/data/rows/preference-rows.js'
import { distill } from '../../lib/distill/distill.js'
import type { DistillOptions } from '../../lib/distill/options.generated.js'
import { cleanFolder } from '../helpers/scratch.js'
import { type Asked, teacherServer } from '../helpers/teacher-server.js'

const linesOf = (path: string) =>
  readFileSync(path, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line))

const judging = ({ question }: Asked) => question.startsWith('Judge')

/** The answers as a judge is shown them. */
const shownIn = (question: string) =>
  [...question.matchAll(/<answer \d+>\n([\s\S]*?)\n<\/answer/g)].map(([, text]) => text!)

/** Ranks with a judge that likes what `worth` says. */
async function rank(
  t: ExecutionContext,
  data: object[],
  more: Partial<DistillOptions>,
  judge: (shown: string[], asked: Asked) => unknown,
  answer: (asked: Asked) => string = () => 'unasked',
) {
  const server = await teacherServer(t, (asked) => {
    if (!judging(asked)) return answer(asked)
    const said = judge(shownIn(asked.question), asked)
    return typeof said === 'string' ? said : JSON.stringify(said)
  })
  const options = {
    data: data as never,
    output: `${cleanFolder(t)}.jsonl`,
    mode: 'rank' as const,
    endpoint: { model: 'big', baseUrl: server.baseUrl },
    concurrency: 1,
    ...more,
  }
  const end = await distill(options).finish()
  const rows = linesOf(options.output).map(({ seedId, ...row }) => row)
  // What the trainings on preferences read.
  for (const row of rows) t.true(readPreference(row, { source: 'made', line: 1 }).responses.length >= 2)
  return { end, rows, server }
}

test('answers of the row, scored: the best first, in whatever order they are shown', async (t) => {
  const data = Array.from({ length: 8 }, (_, i) => ({
    prompt: `why ${i}?`,
    responses: ['ok', 'best', 'bad'],
    tag: i,
  }))
  const worth: Record<string, number> = { best: 9, ok: 5, bad: 1 }
  const { rows, server } = await rank(t, data, {}, (shown) => ({ scores: shown.map((text) => worth[text]) }))
  t.is(server.asked.length, 8)
  t.deepEqual(rows[3], { prompt: 'why 3?', responses: ['best', 'ok', 'bad'], scores: [9, 5, 1], tag: 3 })
  for (const { responses } of rows) t.deepEqual(responses, ['best', 'ok', 'bad'])
  t.true(new Set(server.asked.map(({ question }) => shownIn(question).join())).size > 2)
})

test('a pair rated again, as a ranking and as pairs with a margin', async (t) => {
  const data = [
    {
      instruction: 'add',
      input: '1 1',
      output: 'old',
      chosen: 'three',
      rejected: [{ role: 'assistant', content: 'two' }],
    },
  ]
  const place = (shown: string[]) => shown.indexOf('two') + 1
  const ranked = await rank(t, data, { judge: 'rank', form: 'pairs' }, (shown) => [
    place(shown),
    3 - place(shown),
  ])
  const prompt = [{ role: 'user', content: 'add\n1 1', instruction: 'add', input: '1 1' }]
  t.deepEqual(ranked.rows, [{ prompt, chosen: 'two', rejected: 'three' }])
  const scored = await rank(t, data, { form: 'pairs' }, (shown) =>
    shown.map((text) => (text === 'two' ? 8 : 3)),
  )
  t.deepEqual(scored.rows, [{ prompt, chosen: 'two', rejected: 'three', margin: 5 }])
})

test('where a row brings no answers, the teacher is asked for some first', async (t) => {
  let count = 0
  const { rows, server, end } = await rank(
    t,
    [{ prompt: 'why?' }],
    { responses: 3, systemPrompt: 'You teach', temperature: 0.9, concurrency: 4, criteria: 'rhymed' },
    (shown) => shown.map((text) => Number(text)),
    () => `${++count}`,
  )
  t.deepEqual(rows, [{ prompt: 'why?', responses: ['3', '2', '1'], scores: [3, 2, 1] }])
  t.is(end.requests, 4)
  t.is(new Set(server.asked.slice(0, 3).map(({ body }) => body.seed)).size, 3)
  t.deepEqual(
    server.asked.map(({ body }) => [body.messages.length, body.temperature]),
    [
      [2, 0.9],
      [2, 0.9],
      [2, 0.9],
      [1, 0],
    ],
  )
  t.regex(server.asked.at(-1)!.question, /A good answer is rhymed\./)
})

test('equal scores give no preference: one of such answers stands, and none if all are equal', async (t) => {
  const data = [{ prompt: 'why?', responses: ['a', 'b', 'c'] }]
  const { rows } = await rank(t, data, {}, (shown) => shown.map((text) => (text === 'c' ? 9 : 4)))
  t.is(rows[0].responses.length, 2)
  t.is(rows[0].responses[0], 'c')
  t.deepEqual(rows[0].scores, [9, 4])
  const equal = await rank(t, data, { retries: 1 }, () => [5, 5, 5])
  t.like(equal.end, { rows: 0, failed: 1, requests: 2 })
})

test('ratings that cannot be parsed are requested again', async (t) => {
  const data = [{ prompt: 'why?', responses: ['a', 'b'] }]
  const bad = [
    'The first!',
    '{"scores": [1]}',
    '[1, "2"]',
    '[0, 5]',
    '[1, 11]',
    '[1, null]',
    'First [1]: 3 [2]: 4',
  ]
  for (const reply of bad) {
    const { rows, end } = await rank(t, data, {}, (_, { before }) =>
      before === 0 ? reply : 'Scores: [2, 7]',
    )
    t.like(end, { retries: 1, rows: 1 }, reply)
    t.deepEqual(rows[0].scores, [7, 2])
  }
  for (const reply of ['[1, 1]', '[0, 1]', '[1, 2, 3]', '[1.5, 2]']) {
    const { end } = await rank(t, data, { judge: 'rank' }, (_, { before }) =>
      before === 0 ? reply : '[2, 1]',
    )
    t.like(end, { retries: 1, rows: 1 }, reply)
  }
})

test('answers that are all the same cannot be ranked', async (t) => {
  const { end } = await rank(
    t,
    [{ prompt: 'why?' }],
    {},
    () => '[]',
    () => 'because',
  )
  t.like(end, { failed: 1, rows: 0, requests: 4 })
})
