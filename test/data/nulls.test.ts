import test from 'ava'
import { readPreference, readPrompt, readRow, readUnpaired } from '../../lib/data/index.js'
import { readSeeds } from '../../lib/distill/seeds.js'
import { assistant, user } from '../helpers/response-rows.js'

const origin = { source: 'rows.jsonl', line: 7 }

/** A row as a table of all kinds of rows has it: every column, most of them null. */
const columns = (row: object) => ({
  ...Object.fromEntries(
    [
      ...['messages', 'conversations', 'instruction', 'input', 'output', 'system', 'history', 'tools'],
      ...['prompt', 'completion', 'text', 'chosen', 'rejected', 'responses', 'margin', 'label', 'kto_tag'],
      ...['weight', 'note'],
    ].map((name) => [name, null]),
  ),
  ...row,
})

const turns = [user('a'), assistant('b')]
const shareGpt = [
  { from: 'human', value: 'a' },
  { from: 'gpt', value: 'b' },
]
const rows: Record<string, [read: (row: unknown, at: typeof origin) => unknown, ...rows: object[]]> = {
  readRow: [
    readRow,
    { messages: turns },
    { conversations: shareGpt },
    { instruction: 'a', output: 'b' },
    { prompt: 'a', completion: 'b' },
    { prompt: [user('a')], completion: [assistant('b')] },
    { text: 'a' },
  ],
  readPreference: [
    readPreference,
    { prompt: 'a', chosen: 'b', rejected: 'c' },
    { instruction: 'a', chosen: 'b', rejected: 'c' },
    { chosen: turns, rejected: [user('a'), assistant('c')] },
    { prompt: 'a', responses: ['b', 'c'] },
  ],
  readUnpaired: [
    readUnpaired,
    { prompt: 'a', completion: 'b', label: true },
    { messages: turns, kto_tag: false },
    { instruction: 'a', output: 'b', label: true },
  ],
  readPrompt: [
    readPrompt,
    { prompt: 'a' },
    { prompt: [user('a')] },
    { instruction: 'a' },
    { messages: turns },
    { conversations: shareGpt },
    { prompt: 'a', chosen: turns, rejected: [user('a'), assistant('c')] },
  ],
}
for (const [name, [read, ...kinds]] of Object.entries(rows)) {
  test(`${name} takes null columns for absent ones`, (t) => {
    for (const row of kinds) t.deepEqual(read(columns(row), origin), read(row, origin), JSON.stringify(row))
  })
}

test('a row all of whose columns are null is of an unknown kind', (t) => {
  t.throws(() => readRow(columns({}), origin), { message: /unknown kind of row, with the fields \(none\)/ })
})

test('fields of messages that are null are absent, as those of tool calls and their functions are', (t) => {
  const call = { id: '1', function: { name: 'f', arguments: { unit: null } } }
  const given = [
    { ...user('a'), tool_calls: null, name: null, train: null, from: null, value: null },
    {
      role: 'assistant',
      content: null,
      name: null,
      tool_calls: [{ type: null, ...call, function: { ...call.function, strict: null } }],
    },
    { role: 'tool', content: '3', tool_call_id: '1', tool_calls: null },
  ]
  const example = readRow({ messages: given }, origin)
  t.deepEqual(example.kind === 'messages' && example.messages, [
    user('a'),
    { role: 'assistant', content: '', tool_calls: [call], noContent: true },
    { role: 'tool', content: '3', tool_call_id: '1' },
  ])
  t.deepEqual(
    readRow({ messages: shareGpt.map((turn) => ({ ...turn, role: null, content: null })) }, origin),
    readRow({ conversations: shareGpt }, origin),
  )
})

test('a message has a role and, but beside tool calls, a content', (t) => {
  const refused: [object, RegExp][] = [
    [
      { role: 'assistant', content: null },
      /messages\[0\]\.content must be a string or a list of text parts, got null/,
    ],
    [
      { role: 'assistant', content: null, tool_calls: null },
      /\.content must be a string or a list of text parts, got null/,
    ],
    [{ role: null, content: 'a' }, /messages\[0\]\.role must be a string, got nothing/],
  ]
  for (const [message, expected] of refused)
    t.throws(() => readRow({ messages: [message] }, origin), { code: 'ERR_DATA', message: expected })
})

test('seeds of a table are read like others, and keep their row', async (t) => {
  const row = columns({ prompt: 'a', responses: ['b', 'c'] })
  const { seeds } = await readSeeds([row], { mode: 'rank', onBadRow: 'error' })
  t.deepEqual(seeds[0]?.responses, ['b', 'c'])
  t.is(seeds[0]?.row, row)
})

test('columns and fields that may be JSON are absent where they are null in JSON', (t) => {
  const said = { ...assistant('b'), tool_calls: 'null', function_call: 'null' }
  const row = { tools: 'null', chat_template_kwargs: 'null', system: null }
  t.deepEqual(readRow({ messages: [user('a'), said], ...row }, origin), readRow({ messages: turns }, origin))
  const parts = [
    { type: 'thinking', thinking: 'Hm.' },
    { type: 'text', text: 'b' },
  ]
  t.notThrows(() => readRow({ messages: [user('a'), { ...said, content: parts }] }, origin))
  const instruction = { instruction: 'a', output: 'b' }
  t.deepEqual(readRow({ ...instruction, history: 'null' }, origin), readRow(instruction, origin))
  for (const empty of [{ input: [] }, { context: {} }, { context: [], input: '' }])
    t.deepEqual(readRow({ ...instruction, ...empty }, origin), readRow(instruction, origin))
})

test('the text of a message is that of the field which has one', (t) => {
  for (const name of ['value', 'text', 'message', 'utterance'])
    t.deepEqual(
      readRow({ messages: [{ role: 'user', content: '', [name]: 'a' }, assistant('b')] }, origin),
      readRow({ messages: turns }, origin),
    )
  t.deepEqual(
    readRow({ messages: [{ ...user('a'), value: '' }, assistant('b')] }, origin),
    readRow({ messages: turns }, origin),
  )
  t.throws(() => readRow({ messages: [{ ...user('a'), value: 'x' }] }, origin), {
    message: /messages\[0\]\.value differs from content/,
  })
})
