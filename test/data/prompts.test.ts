import test from 'ava'
import {
  type DataSource,
  encodeRow,
  loadPrompts,
  plainTemplate,
  type Row,
  readRow,
  type Template,
  type Tokenizer,
  takePrompts,
} from '../../lib/data/index.js'
import { pieceTokenizer } from '../helpers/piece-tokenizer.js'
import { assistant, chat, options, textOf, tokenizer, user } from '../helpers/response-rows.js'

const given = { ...options, overflow: 'error' as const }

async function itemOf(row: unknown, more: { template?: Template; tokenizer?: Tokenizer } = {}) {
  const { items } = await loadPrompts([row] as DataSource, { ...given, ...more })
  return items[0]!
}

test('a prompt has the tokens before the response of the same row in training', async (t) => {
  const rows: Row[] = [
    { prompt: 'Sky?  ', completion: 'blue' },
    { prompt: 'a <eos> </s> b', completion: ' ab' },
    { prompt: [user('a'), assistant('b'), user('ab <eos>')], completion: [assistant('b')] },
    { prompt: [user('a')], completion: [assistant('b'), user('no'), assistant('a')] },
    { instruction: 'a', input: 'b', output: 'ab', system: 'S' },
    { messages: [{ role: 'system', content: 'S' }, user('a'), assistant('b'), user('b'), assistant('ab')] },
    {
      conversations: [
        { from: 'human', value: 'a ' },
        { from: 'gpt', value: 'b' },
      ],
    },
  ]
  for (const words of [tokenizer, pieceTokenizer()]) {
    for (const template of [chat, plainTemplate]) {
      for (const row of rows) {
        const example = readRow(row, { source: 'rows', line: 1 })
        if (example.kind === 'text') throw new Error('a row with an answer is needed')
        if ('completion' in row && Array.isArray(row.completion) && example.kind === 'messages')
          example.messages.length = (row.prompt as unknown[]).length + 1
        const encoded = encodeRow(example, words, template, {
          maxLength: 512,
          trainOn: 'lastAssistant',
          overflow: 'error',
        })
        if (typeof encoded === 'string') throw new Error(encoded)
        const start = encoded.labels.findIndex((label) => label !== -100)
        const { promptIds } = await itemOf(row, { template, tokenizer: words })
        t.deepEqual(promptIds, encoded.inputIds.slice(0, start), JSON.stringify(row))
      }
    }
  }
})

test('prompts of every kind, with what a person reads and the columns of the row', async (t) => {
  const asked = '[user]Sky?<eos>\n[assistant]'
  const whole = (answer: string) => [user('Sky?'), assistant(answer)]
  const cases: [Record<string, unknown>, string, boolean][] = [
    [{ prompt: 'Sky? ', answer: 'blue' }, 'Sky?', false],
    [{ prompt: 'Sky?', chosen: 'a', rejected: 'b' }, 'Sky?', false],
    [{ prompt: [user('Sky?')], answer: ['blue', 7] }, asked, true],
    [{ instruction: 'Sky?' }, asked, true],
    [{ messages: [user('Sky?')] }, asked, true],
    [{ messages: whole('blue') }, asked, true],
    [{ conversations: [{ from: 'human', value: 'Sky?' }] }, asked, true],
    [{ chosen: whole('a'), rejected: whole('b') }, asked, true],
    [{ prompt: 'Sky?', chosen: whole('a'), rejected: whole('b') }, asked, true],
    [{ prompt: 'Sky?', chosen: assistant('a'), rejected: 'b' }, asked, true],
    [{ prompt: [user('Sky?')], completion: 'a', label: true }, asked, true],
  ]
  for (const [row, expected, conversation] of cases) {
    const item = await itemOf(row)
    t.is(textOf(item.promptIds), expected, JSON.stringify(row))
    t.is(item.prompt, 'Sky?')
    t.deepEqual(item.messages, conversation ? [user('Sky?')] : null)
    t.is(item.row, row)
    t.is(item.origin, 'rows:1')
  }
  const tool = [user('Sum?'), assistant('call'), { role: 'tool', content: '3' }]
  t.is((await itemOf({ messages: tool })).prompt, 'Sum?')
})

test('prompts that are too long are an error, or dropped and counted', async (t) => {
  const rows = [{ prompt: '1234' }, { prompt: '' }, { prompt: '12345' }, { prompt: '1' }]
  const strict = { ...given, maxLength: 4 }
  await t.throwsAsync(loadPrompts(rows, strict), {
    code: 'ERR_DATA',
    message: /^rows:3: a prompt of 5 tokens leaves no room for the response \(at most 4\)/,
  })
  const { items, report } = await loadPrompts(rows, { ...strict, overflow: 'drop' })
  t.deepEqual(
    items.map(({ prompt, origin }) => [prompt, origin]),
    [
      ['1234', 'rows:1'],
      ['1', 'rows:4'],
    ],
  )
  t.deepEqual(report, {
    read: 4,
    rows: 2,
    dropped: { badRow: 0, tooLong: 1, empty: 1 },
    tokens: 5,
    length: { min: 1, median: 4, p90: 4, p99: 4, max: 4 },
    specialMarks: 0,
    stringPrompts: { turn: 0, raw: 2, rendered: 0 },
    example: '1234',
    firstBadRow: null,
    notes: [],
  })
  await t.throwsAsync(loadPrompts([{ prompt: '12345' }], { ...strict, overflow: 'drop' }), {
    message: /no usable prompts: of 1 rows 0 are bad, 1 too long and 0 empty/,
  })
})

test('bad rows are named with their field, or skipped and counted', async (t) => {
  const cases: [unknown, RegExp][] = [
    [null, /^rows:2: a row must be an object, got null/],
    [{ text: 'a' }, /^rows:2: text is not a prompt/],
    [{ prompt: 3 }, /^rows:2: prompt must be a string, got a number/],
    [{ prompt: [] }, /^rows:2: prompt must be a list of at least one message/],
    [{ messages: [assistant('a')] }, /^rows:2: messages has a response but no prompt/],
    [{ ask: 'a' }, /^rows:2: unknown kind of row, with the fields ask/],
    [
      { chosen: [user('a'), assistant('x')], rejected: [user('b'), assistant('x')] },
      /^rows:2: rejected has another prompt/,
    ],
  ]
  for (const [row, message] of cases) {
    const rows = [{ prompt: 'P' }, row] as DataSource
    await t.throwsAsync(loadPrompts(rows, given), { code: 'ERR_DATA', message })
    const { report } = await loadPrompts(rows, { ...given, onBadRow: 'skip' })
    t.deepEqual([report.read, report.rows, report.dropped.badRow], [2, 1, 1])
    t.regex(report.firstBadRow!, message)
  }
})

test('each pass takes every prompt once, in an order that the seed and its number decide', async (t) => {
  const set = await loadPrompts(
    Array.from({ length: 7 }, (_, i) => ({ prompt: `P${i}` })),
    given,
  )
  const take = (from: number, count: number, seed = 3, shuffle = true) =>
    takePrompts(set, { from, count, seed, shuffle }).map(({ prompt }) => prompt)
  const whole = take(0, 21)
  const passes = [0, 7, 14].map((from) => whole.slice(from, from + 7))
  for (const pass of passes) t.is(new Set(pass).size, 7)
  t.notDeepEqual(passes[0], passes[1])
  // Taken up anywhere, across the end of a pass too.
  t.deepEqual(take(5, 9), whole.slice(5, 14))
  t.notDeepEqual(take(0, 7, 4), passes[0])
  t.deepEqual(take(5, 4, 3, false), ['P5', 'P6', 'P0', 'P1'])
})

test('the hash changes with the prompt and with every column, which a reward may look at', async (t) => {
  const hashOf = async (...rows: unknown[]) => (await loadPrompts(rows as DataSource, given)).hash
  const first = await hashOf({ prompt: 'P', answer: '1' }, { prompt: 'Q' })
  t.is(await hashOf({ prompt: 'P', answer: '1' }, { prompt: 'Q' }), first)
  t.not(await hashOf({ prompt: 'P', answer: '2' }, { prompt: 'Q' }), first)
  t.not(await hashOf({ prompt: 'P', answer: '1' }, { prompt: 'R' }), first)
  t.not(await hashOf({ prompt: 'Q' }, { prompt: 'P', answer: '1' }), first)
  // What has no JSON does no harm.
  const loop: Record<string, unknown> = { prompt: 'P', size: 2n }
  await t.notThrowsAsync(hashOf(loop))
  loop.self = loop
  await t.notThrowsAsync(hashOf(loop))
})

test('sources have no weight, and reading can be stopped', async (t) => {
  const rows = [{ prompt: 'P' }]
  await t.throwsAsync(loadPrompts([{ data: rows, weight: 2 }], given), { message: /no weight/ })
  await t.throwsAsync(loadPrompts(rows, { ...given, signal: AbortSignal.abort() }), { name: 'AbortError' })
})
