import test from 'ava'
import { readPreference, readPrompt, readRow, readUnpaired } from '../../lib/data/index.js'
import { columnsOf } from '../../lib/data/rows/names.js'
import { unreadColumns } from '../../lib/data/rows/unread.js'
import { assistant, user } from '../helpers/response-rows.js'

const origin = { source: 'rows.jsonl', line: 7 }

function messagesIn(...messages: object[]) {
  const example = readRow({ messages }, origin)
  if (example.kind !== 'messages') throw new Error('messages expected')
  return example.messages
}

test('text parts of a content are joined, and kept for templates that take parts', (t) => {
  const [first, second, third] = messagesIn(
    {
      role: 'user',
      content: [
        { type: 'text', text: 'a ' },
        { type: 'input_text', text: 'b', image_url: null },
      ],
    },
    { role: 'assistant', content: [{ type: 'text', value: 'c' }] },
    { role: 'user', content: ['d', 'e'] },
  )
  const part = (text: string) => ({ type: 'text', text })
  t.deepEqual(first, { ...user('a b'), contentParts: [part('a '), part('b')] })
  t.deepEqual(second, { ...assistant('c'), contentParts: [part('c')] })
  t.deepEqual(third, { ...user('de'), contentParts: [part('d'), part('e')] })
})

test('a reasoning of parts is joined', (t) => {
  const [message] = messagesIn({ ...assistant('a'), reasoning_content: [{ type: 'text', text: 'b' }] })
  t.deepEqual(message, { ...assistant('a'), reasoning_content: 'b' })
})

test('parts of another kind, and contents of another type, are errors that name them', (t) => {
  const refused: [unknown, RegExp][] = [
    [
      [{ type: 'image_url', image_url: { url: 'x' } }],
      /content\[0\] is of type "image_url": only parts of type text/,
    ],
    [[{ type: 'text', text: 'a' }, { type: 'audio' }], /content\[1\] is of type "audio"/],
    [[{ type: 'text' }], /content\[0\]\.text must be a string, got nothing/],
    [[7], /content\[0\] must be a part of type text, got a number/],
    [7, /content must be a string or a list of text parts, got a number/],
    [{ text: 'a' }, /content must be a string or a list of text parts, got an object/],
    [undefined, /content must be a string or a list of text parts, got null/],
    [[{ custom: 1 }], /content\[0\] holds custom: only parts of type text are supported/],
  ]
  for (const [content, message] of refused)
    t.throws(() => messagesIn({ role: 'user', content }), { code: 'ERR_DATA', message })
})

test('roles and contents under the names of ShareGPT and its kin', (t) => {
  const cases: [object, object][] = [
    [{ from: 'human', value: 'a' }, user('a')],
    [{ role: 'human', content: 'a' }, user('a')],
    [{ role: 'User', value: 'a' }, user('a')],
    [{ from: 'gpt', content: 'a' }, assistant('a')],
    [{ role: 'model', content: 'a' }, assistant('a')],
    [{ role: 'assistant', text: 'a' }, assistant('a')],
    [{ role: 'user', from: 'x', content: 'a', value: 'a' }, user('a')],
    [
      { role: 'developer', content: 'a' },
      { role: 'developer', content: 'a' },
    ],
    [
      { role: 'ipython', content: 'a' },
      { role: 'ipython', content: 'a' },
    ],
    [
      { from: 'function_response', value: 'a' },
      { role: 'tool', content: 'a' },
    ],
  ]
  for (const [given, expected] of cases) t.deepEqual(messagesIn(given), [expected as never])
  t.deepEqual(Object.keys(messagesIn({ name: 'x', content: 'a', role: 'user' })[0]!), [
    'name',
    'content',
    'role',
  ])
  t.throws(() => messagesIn({ role: 'user', content: 'a', value: 'b' }), {
    message: /value differs from content/,
  })
})

const LONE = 'a \ud83d b'
test('half of a surrogate pair is an error that names the field', (t) => {
  const tool = { type: 'function', function: { name: 'f', description: LONE } }
  const call = { function: { name: 'f', arguments: { x: [LONE] } } }
  const cases: [(row: unknown, at: typeof origin) => unknown, object, string][] = [
    [readRow, { text: LONE }, 'text'],
    [readRow, { prompt: LONE, completion: 'b' }, 'prompt'],
    [readRow, { prompt: 'a', completion: '\ude00' }, 'completion'],
    [readRow, { instruction: 'a', output: LONE }, 'output'],
    [readRow, { instruction: 'a', output: 'b', system: LONE }, 'system'],
    [readRow, { instruction: 'a', output: 'b', history: [[LONE, 'b']] }, 'history[0][0]'],
    [readRow, { messages: [user(LONE)] }, 'messages[0].content'],
    [readRow, { conversations: [{ from: 'human', value: LONE }] }, 'conversations[0].value'],
    [readRow, { messages: [user('a')], tools: [tool] }, 'tools[0].function.description'],
    [readRow, { messages: [user('a')], tools: JSON.stringify([tool]) }, 'tools[0].function.description'],
    [
      readRow,
      { messages: [{ ...assistant(''), tool_calls: [call] }] },
      'messages[0].tool_calls[0].function.arguments.x[0]',
    ],
    [readRow, { messages: [{ ...user('a'), [LONE]: 1 }] }, 'a key of messages[0]'],
    [readPreference, { prompt: 'a', chosen: LONE, rejected: 'b' }, 'chosen'],
    [readPreference, { prompt: [user('a')], chosen: 'b', rejected: LONE }, 'rejected'],
    [readPreference, { prompt: 'a', responses: ['b', LONE] }, 'responses[1]'],
    [readUnpaired, { prompt: LONE, completion: 'b', label: true }, 'prompt'],
    [readPrompt, { prompt: LONE }, 'prompt'],
  ]
  for (const [read, row, field] of cases)
    t.throws(
      () => read(row, origin),
      {
        code: 'ERR_DATA',
        message: new RegExp(
          `^rows\\.jsonl:7: (tools )?${field.replace(/[[\].]/g, '\\$&')} has half of a surrogate pair, \\\\u[0-9a-f]{4}`,
        ),
      },
      JSON.stringify(row),
    )
  t.notThrows(() => readRow({ text: 'a 😀' }, origin))
})

test('values that are not JSON, and values without end, are errors', (t) => {
  const loop: Record<string, unknown> = { ...user('a') }
  loop.self = loop
  t.throws(() => messagesIn(loop), {
    code: 'ERR_DATA',
    message: /is nested deeper than 128 lists and objects/,
  })
  for (const value of [() => 1, Symbol('x'), new Date(0), new Uint8Array(1), /x/])
    t.throws(() => messagesIn({ ...user('a'), extra: value }), {
      message: /messages\[0\]\.extra must be a JSON value/,
    })
})

const readers: Record<string, (row: unknown, at: typeof origin) => unknown> = {
  sft: readRow,
  preference: readPreference,
  unpaired: readUnpaired,
  prompt: readPrompt,
}
const part = JSON.parse('{"type":"text","text":"x"}') as object
const cyclic: Record<string, unknown> = {}
cyclic.self = cyclic
const bare: unknown = Object.create(null)
const chat = (...messages: unknown[]) => ({ messages: [{ role: 'user', content: 'a' }, ...messages] })
const pairOf = (chosen: unknown) => ({ prompt: 'q', chosen, rejected: 'b' })
const ofLangChain = (args: unknown) => chat({ type: 'ai', content: '', tool_calls: [{ name: 'f', args }] })
const unreadable: [kind: string, row: object, message: RegExp | null][] = [
  ['preference', pairOf([{ type: 'reasoning', summary: [] }]), /chosen holds no turn with a text or a call/],
  ['preference', pairOf([{ input: '', output: '' }]), /chosen holds no turn/],
  ['preference', pairOf({ role: 'tool', content: [{ type: 'source' }] }), /chosen holds no turn/],
  [
    'preference',
    { ...pairOf('a'), messages: [{ type: 'reasoning', summary: [] }] },
    /messages holds no turn/,
  ],
  [
    'unpaired',
    { prompt: 'q', completion: [{ type: 'reasoning', summary: [] }], label: true },
    /completion holds no turn/,
  ],
  [
    'sft',
    chat({ role: 'user', content: [{ ...part, type: 2n ** 70n }] }),
    /content\[0\] is of type a number/,
  ],
  [
    'sft',
    chat({ role: 'assistant', content: [{ type: 'thinking', thinking: 't' }, { type: cyclic }] }),
    /content\[1\] is of type an object/,
  ],
  [
    'sft',
    chat({ role: 'assistant', content: [{ type: 'thinking', thinking: 't' }, { type: 2n ** 70n }] }),
    /content\[1\] is of type a number/,
  ],
  ['sft', ofLangChain(cyclic), /tool_calls\[0\]\.args.* is nested deeper than 128/],
  ['sft', ofLangChain({ at: new Date(0) }), /tool_calls\[0\]\.args\.at must be a JSON value, got Date/],
  [
    'sft',
    chat({ lc: 1, type: 'constructor', id: [bare], kwargs: {} }),
    /id names no message of a known type/,
  ],
  [
    'sft',
    chat({ role: 'assistant', parts: [{ type: 'tool-f', toolCallId: 'c', state: bare, input: {} }] }),
    null,
  ],
]
test('rows without a turn, and types and arguments that are no JSON, are errors that name them', (t) => {
  for (const [kind, row, message] of unreadable) {
    const read = () => readers[kind]!(row, origin)
    if (message === null) t.notThrows(read)
    else t.throws(read, { code: 'ERR_DATA', message })
  }
})

test('a column may have the name of what every object has', (t) => {
  const row = { prompt: 'a', completion: 'b', constructor: 'c', toString: 'd' }
  t.deepEqual(unreadColumns(columnsOf(row, origin), 'sft'), ['constructor', 'toString'])
})
