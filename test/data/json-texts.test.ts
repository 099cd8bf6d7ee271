import test from 'ava'
import { readPreference, readPrompt, readRow, readUnpaired } from '../../lib/data/index.js'
import { assistant, user } from '../helpers/response-rows.js'

const origin = { source: 'rows.jsonl', line: 7 }
const json = JSON.stringify
const whole = [user('a'), assistant('b')]

/** Texts of JSON that are responses, though they are lists of objects with fields of messages. */
const texts = {
  'journeys from and to': [{ from: 'Paris', to: 'London' }],
  'a role that is none of a chat': [{ role: 'author', text: 'Bob' }],
  'a role without a text': [{ role: 'user', id: 3 }],
  'a sender without a text': [{ from: 'user', to: 'bot' }],
  'messages beside a prompt that is a text': whole,
}
for (const [name, value] of Object.entries(texts)) {
  test(`a completion is the text of JSON that it is: ${name}`, (t) => {
    const row = { prompt: 'Write it as JSON', completion: json(value) }
    t.deepEqual(readRow(row, origin), { kind: 'completion', ...row, weight: 1 })
    t.deepEqual(readUnpaired({ ...row, label: true }, origin).example, {
      kind: 'completion',
      ...row,
      weight: 1,
    })
    const chosen = readPreference({ prompt: row.prompt, chosen: row.completion, rejected: 'no' }, origin)
    t.like(chosen.responses[0], row)
    const rejected = readPreference({ prompt: row.prompt, chosen: 'no', rejected: row.completion }, origin)
    t.like(rejected.responses[1], row)
  })
}

test('a prompt is the text of JSON that it is, but where it holds messages', (t) => {
  for (const value of [[{ from: 'Paris', to: 'London' }], [{ role: 'author', text: 'Bob' }]])
    t.deepEqual(readPrompt({ prompt: json(value) }, origin), { text: json(value) })
  t.like(readPrompt({ prompt: json([user('a')]) }, origin), { messages: [user('a')] })
})

test('JSON of messages is read where the prompt is messages, or both responses are', (t) => {
  const said = [{ role: 'assistant', tool_calls: [{ name: 'f', arguments: {} }] }]
  for (const prompt of [[user('a')], json([user('a')])]) {
    t.like(readRow({ prompt, completion: json([assistant('b')]) }, origin), { kind: 'messages' })
    t.like(readRow({ prompt, completion: json(said) }, origin), {
      messages: [{ content: 'a' }, { tool_calls: [{ function: { name: 'f' } }] }],
    } as never)
    // A text beside messages.
    t.like(readRow({ prompt, completion: '[{"from": "Paris"}]' }, origin), {
      messages: [{ content: 'a' }, { content: '[{"from": "Paris"}]' }],
    } as never)
  }
  for (const rejected of [[user('a'), assistant('c')], json([user('a'), assistant('c')])])
    t.like(readPreference({ chosen: json(whole), rejected }, origin).responses, {
      0: { messages: [user('a'), assistant('b')] },
      1: { messages: [user('a'), assistant('c')] },
    } as never)
})

test('a list of messages that are JSON each is a conversation', (t) => {
  const calls = [...whole, user('c'), { role: 'assistant', content: null, tool_calls: [{ name: 'f' }] }]
  for (const messages of [whole, calls])
    for (const name of ['messages', 'conversations'])
      t.deepEqual(
        readRow({ [name]: messages.map((message) => json(message)) }, origin),
        readRow({ messages }, origin),
      )
  const prompt = [json(user('a'))]
  t.like(readPrompt({ prompt }, origin), { messages: [user('a')] })
})

test('a list of messages in JSON and of texts is an error that names the text', (t) => {
  t.throws(() => readRow({ messages: [json(user('a')), 'b'] }, origin), {
    code: 'ERR_DATA',
    message: 'rows.jsonl:7: messages[1] is a text beside messages in JSON: write all of them in one form',
  })
  // Texts of other objects are what is said.
  t.like(readRow({ messages: ['{"town": "Ulm"}', '{"mm": 3}'] }, origin), {
    messages: [user('{"town": "Ulm"}'), assistant('{"mm": 3}')],
  } as never)
})

test('a response may be JSON of one message, beside a prompt that is messages', (t) => {
  const [chosen, rejected] = [
    { from: 'gpt', value: 'b' },
    { role: 'assistant', content: 'c' },
  ]
  for (const asked of [
    { conversations: json([user('a')]) },
    { prompt: [user('a')] },
    { prompt: json([user('a')]) },
  ]) {
    t.deepEqual(
      readPreference({ ...asked, chosen: json(chosen), rejected: json(rejected) }, origin),
      readPreference({ ...asked, chosen, rejected }, origin),
    )
    t.like(readPreference({ ...asked, chosen: json(chosen), rejected: 'c' }, origin).responses[0], {
      messages: [user('a'), assistant(json(chosen))],
    } as never)
  }
  const prompt = [user('a')]
  t.deepEqual(
    readRow({ prompt, completion: json(rejected) }, origin),
    readRow({ prompt, completion: rejected }, origin),
  )
  const texts = { prompt: 'Write it as JSON', chosen: json(chosen), rejected: json(rejected) }
  t.like(readPreference(texts, origin).responses[0], { kind: 'completion', completion: json(chosen) })
  for (const prompt of [json(user('a')), json({ role: 'user', text: 'a', at: 3 })])
    t.like(readRow({ prompt, completion: 'b' }, origin), { kind: 'completion', prompt })
})

test('a response in JSON of another speaker, or with `from` alone, is trained as it is written', (t) => {
  for (const completion of [
    '{"role":"user","content":"x"}',
    '{"role":"system","content":"x"}',
    '{"from":"bot","message":"y"}',
  ]) {
    const { messages } = readRow({ prompt: [user('a')], completion }, origin) as { messages: object[] }
    t.like(messages.at(-1), { role: 'assistant', content: completion })
  }
})
