import test from 'ava'
import { readPreference, readPrompt, readRow, readUnpaired } from '../../lib/data/index.js'
import { assistant, user } from '../helpers/response-rows.js'

const origin = { source: 'rows.jsonl', line: 7 }
const tools = [{ type: 'function', function: { name: 'f' } }]
const system = { role: 'system', content: 'S' }

type Read = (row: unknown, at: typeof origin) => unknown
/** The conversations in what a reader returns: their messages, and what is beside them. */
function conversationsIn(read: unknown): Record<string, unknown>[] {
  const value = read as Record<string, unknown>
  if (value.responses !== undefined) return value.responses as Record<string, unknown>[]
  return [(value.example as Record<string, unknown>) ?? value]
}

const whole = [user('a'), assistant('b')]
const pair = { chosen: [assistant('b')], rejected: [assistant('c')] }
/** Every kind of row whose turns a template renders. */
const kinds: Record<string, [Read, object]> = {
  messages: [readRow, { messages: whole }],
  'messages as JSON': [readRow, { messages: JSON.stringify(whole) }],
  conversations: [
    readRow,
    {
      conversations: [
        { from: 'human', value: 'a' },
        { from: 'gpt', value: 'b' },
      ],
    },
  ],
  conversation: [readRow, { conversation: whole }],
  instruction: [readRow, { instruction: 'a', output: 'b' }],
  'prompt and completion of messages': [readRow, { prompt: [user('a')], completion: [assistant('b')] }],
  'a prompt of messages and a text': [readRow, { prompt: [user('a')], completion: 'b' }],
  'a text and a completion of messages': [readRow, { prompt: 'a', completion: [assistant('b')] }],
  'a prompt with a pair': [readPreference, { prompt: [user('a')], ...pair }],
  'a prompt with texts': [readPreference, { prompt: [user('a')], chosen: 'b', rejected: 'c' }],
  'a text with a pair': [readPreference, { prompt: 'a', ...pair }],
  'whole conversations': [readPreference, { chosen: whole, rejected: [user('a'), assistant('c')] }],
  'messages with a pair': [readPreference, { messages: [user('a')], chosen: 'b', rejected: 'c' }],
  'an instruction with a pair': [readPreference, { instruction: 'a', chosen: 'b', rejected: 'c' }],
  'a ranking': [readPreference, { prompt: [user('a')], responses: ['b', 'c'] }],
  'unpaired messages': [readUnpaired, { messages: whole, label: true }],
  'an unpaired prompt': [readUnpaired, { prompt: [user('a')], completion: 'b', label: true }],
  'an unpaired text': [readUnpaired, { prompt: 'a', completion: [assistant('b')], label: true }],
  'an unpaired instruction': [readUnpaired, { instruction: 'a', output: 'b', label: true }],
  'a prompt of messages': [readPrompt, { prompt: [user('a')] }],
  'messages as a prompt': [readPrompt, { messages: whole }],
  'an instruction as a prompt': [readPrompt, { instruction: 'a' }],
  'a pair as a prompt': [readPrompt, { prompt: [user('a')], ...pair }],
  'whole conversations as a prompt': [readPrompt, { chosen: whole, rejected: [user('a'), assistant('c')] }],
}
for (const [kind, [read, row]] of Object.entries(kinds)) {
  test(`tools, system and chat_template_kwargs are read beside ${kind}`, (t) => {
    const columns = { tools, system: 'S', chat_template_kwargs: { enable_thinking: false, level: null } }
    for (const given of [columns, { ...columns, tools: JSON.stringify(tools), system_prompt: null }]) {
      for (const conversation of conversationsIn(read({ ...row, ...given }, origin))) {
        t.deepEqual(conversation.tools, tools)
        t.deepEqual(conversation.templateArguments, { enable_thinking: false, level: null })
        const [first, second] = conversation.messages as { role: string; content: string; train?: boolean }[]
        t.like(first, system)
        t.like(second, user('a'))
      }
    }
    for (const conversation of conversationsIn(read({ ...row, tools: [], system: '' }, origin))) {
      t.false('tools' in conversation)
      t.false('templateArguments' in conversation)
      t.like((conversation.messages as object[])[0], user('a'))
    }
  })

  test(`columns that are not text are refused beside ${kind}`, (t) => {
    for (const name of ['images', 'image', 'videos', 'video', 'audios', 'audio']) {
      t.throws(() => read({ ...row, [name]: ['a.png'] }, origin), {
        code: 'ERR_DATA',
        message: `rows.jsonl:7: ${name} is not supported: only text is trained`,
      })
      t.notThrows(() => read({ ...row, [name]: [] }, origin))
    }
  })

  const ofTexts = kind.includes('instruction') || kind.includes('a text ') || kind === 'an unpaired text'
  test(`history is ${ofTexts ? 'read' : 'refused'} beside ${kind}`, (t) => {
    const given = { ...row, history: [['x', 'y']] }
    if (!ofTexts) {
      t.throws(() => read(given, origin), { message: /^rows\.jsonl:7: history has no place beside / })
      return
    }
    for (const { messages } of conversationsIn(read(given, origin)))
      t.like((messages as object[]).slice(0, 3), [user('x'), assistant('y'), user('a')] as never)
  })
}

test('a conversation that begins with a system turn keeps it', (t) => {
  for (const first of [
    { role: 'system', content: 'own' },
    { role: 'developer', content: 'own' },
  ]) {
    const example = readRow({ messages: [first, ...whole], system: 'S' }, origin)
    t.deepEqual(example.kind === 'messages' && example.messages, [first, ...whole])
  }
})

test('columns that only a template can place are refused beside a text', (t) => {
  for (const name of ['tools', 'functions', 'system', 'system_prompt', 'history', 'chat_template_kwargs'])
    t.throws(() => readRow({ text: 'a', [name]: [['x', 'y']] }, origin), {
      code: 'ERR_DATA',
      message: `rows.jsonl:7: ${name} has no place beside a row of text: leave it out`,
    })
})

test('other names of prompt, completion and output are read where these are absent', (t) => {
  const expected = { kind: 'completion', prompt: 'a', completion: 'b', weight: 1 }
  const rows = [
    { prompt: 'a', response: 'b' },
    { question: 'a', answer: 'b' },
    { query: 'a', response: 'b' },
    { input: 'a', output: 'b' },
    { prompt: 'a', question: 'x', completion: 'b', answer: 'y' },
  ]
  for (const row of rows) t.deepEqual(readRow(row, origin), expected as never, JSON.stringify(row))
  t.deepEqual(
    readRow({ instruction: 'a', response: 'b' }, origin),
    readRow({ instruction: 'a', output: 'b' }, origin),
  )
  t.deepEqual(readPrompt({ question: 'a', answer: 7 }, origin), { text: 'a' })
  t.like(readUnpaired({ question: 'a', response: 'b', label: true }, origin).example, expected)
  const { responses } = readPreference({ question: 'a', chosen: 'b', rejected: 'c' }, origin)
  t.like(responses[0], expected)
})

test('a row that several kinds fit is read as the first of messages, instruction, prompt and text', (t) => {
  const all = { messages: whole, instruction: 'i', output: 'o', prompt: 'p', completion: 'c', text: 't' }
  const { messages, ...rest } = all
  const { instruction, output, ...texts } = rest
  const { prompt, completion, ...text } = texts
  t.deepEqual(readRow(all, origin), readRow({ messages }, origin))
  t.deepEqual(readRow(rest, origin), readRow({ instruction, output }, origin))
  t.deepEqual(readRow(texts, origin), readRow({ prompt, completion }, origin))
  t.deepEqual(readRow(text, origin), { kind: 'text', text: 't', weight: 1 })
})

test('numbers of a row may be written as floats', (t) => {
  t.is(readRow({ text: 'a', weight: new Number(2) }, origin).weight, 2)
  const row = { prompt: 'a', chosen: 'b', rejected: 'c', weight: new Number(1), margin: new Number(3) }
  t.is(readPreference(row, origin).margin, 3)
  t.notThrows(() => readUnpaired({ messages: whole, label: true, weight: new Number(1) }, origin))
})

test('rows below the top level are pointed out', (t) => {
  t.throws(() => readRow({ data: [{ text: 'a' }] }, origin), {
    message: /with the fields data: .* \(if data holds the rows, write that list alone to a file\)$/,
  })
})

test('chat_template_kwargs must be an object', (t) => {
  const read = (value: unknown) => readRow({ messages: whole, chat_template_kwargs: value }, origin)
  t.like(read('{"a": 1.0}'), { templateArguments: { a: new Number(1) } })
  for (const value of [5, [1], '[1]', 'x'])
    t.throws(() => read(value), { message: /^rows\.jsonl:7: chat_template_kwargs must be an object/ })
})
