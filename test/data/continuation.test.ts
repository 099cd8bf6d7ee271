import test from 'ava'
import {
  type DataSource,
  loadDataset,
  loadPreferences,
  loadPrompts,
  loadUnpaired,
  type Message,
  readRow,
  Template,
} from '../../lib/data/index.js'
import { assistant, chat, options, textOf, tokenizer, user } from '../helpers/response-rows.js'

const given = { ...options, overflow: 'error' as const, trainOn: 'assistant' as const, needsStop: false }

type Sets = {
  store: { length: number; read(row: number): Promise<{ inputIds: Int32Array; labels: Int32Array }> }
}

/** All sequences of a set, trained tokens between « and ». */
async function shown({ store }: Sets): Promise<string[]> {
  const rows = await Promise.all(Array.from({ length: store.length }, (_, i) => store.read(i)))
  return rows.map(({ inputIds, labels }) => {
    let text = ''
    for (const [t, id] of inputIds.entries()) {
      const [before, now] = [t > 0 && labels[t - 1] !== -100, labels[t] !== -100]
      text += `${before && !now ? '»' : ''}${!before && now ? '«' : ''}${textOf(Int32Array.of(id))}`
    }
    return labels.at(-1) === -100 ? text : `${text}»`
  })
}

const sft = async (row: object) => await shown((await loadDataset([row] as DataSource, given)).train)
const pairs = async (row: object) => await shown((await loadPreferences([row] as DataSource, given)).train)
const labeled = async (row: object) => await shown((await loadUnpaired([row] as DataSource, given)).train)
const asked = async (row: object) => {
  const { items } = await loadPrompts([row] as DataSource, given)
  return textOf(items[0]!.promptIds)
}

const begun: Message[] = [user('Sky?'), assistant('It is')]
const start = '[user]Sky?<eos>\n[assistant]It is'
const ends = (...texts: string[]) => texts.map((text) => `${start}«${text}<eos>»`)

test('in every kind of row, a prompt that ends in a turn of the assistant is continued', async (t) => {
  const [blue, no] = [[assistant(' blue')], [assistant(' no')]]
  t.deepEqual(await sft({ prompt: begun, completion: blue }), ends(' blue'))
  t.deepEqual(await sft({ prompt: begun, completion: ' blue' }), ends(' blue'))
  const forms = {
    messages: { prompt: begun, chosen: blue, rejected: no },
    texts: { prompt: begun, chosen: ' blue', rejected: ' no' },
    'a message': { prompt: begun, chosen: blue[0], rejected: no[0] },
    'whole conversations': {
      prompt: begun,
      chosen: [user('Sky?'), assistant('It is blue')],
      rejected: [user('Sky?'), assistant('It is no')],
    },
    'a ranking': { prompt: begun, responses: [' blue', no] },
  }
  for (const [name, row] of Object.entries(forms)) {
    t.deepEqual(await pairs(row), ends(' blue', ' no'), name)
    if (!('responses' in row)) t.is(await asked(row), start, name)
  }
  for (const completion of [blue, ' blue', [user('Sky?'), assistant('It is blue')]])
    t.deepEqual(await labeled({ prompt: begun, completion, label: true }), ends(' blue'))
  t.is(await asked({ prompt: begun }), start)
  t.is(await asked({ prompt: begun, completion: blue }), start)
  t.is(chat.prompt({ messages: begun }, tokenizer), start)
})

test('the system turn of a column stands before a turn that is continued', async (t) => {
  const system = '[system]S<eos>\n'
  const row = { prompt: begun, system: 'S' }
  const whole = (text: string) => [user('Sky?'), assistant(`It is ${text}`)]
  const expected = ends(' blue', ' no').map((text) => system + text)
  t.deepEqual(await pairs({ ...row, chosen: ' blue', rejected: ' no' }), expected)
  t.deepEqual(await pairs({ ...row, chosen: whole('blue'), rejected: whole('no') }), expected)
  t.deepEqual(await labeled({ ...row, completion: ' blue', label: true }), expected.slice(0, 1))
  t.is(await asked(row), system + start)
})

test('a response of several turns continues the first of them', async (t) => {
  const result = { role: 'tool', content: 'R' }
  const several = [assistant(' call'), result, assistant('x')]
  const expected = `${start}« call<eos>»\n[tool]R<eos>\n[assistant]«x<eos>»`
  t.deepEqual(await sft({ prompt: begun, completion: several }), [expected])
  t.deepEqual(await pairs({ prompt: begun, chosen: several, rejected: ' no' }), [expected, ends(' no')[0]!])
  t.deepEqual(await labeled({ prompt: begun, completion: several, label: true }), [expected])
  t.is(await asked({ prompt: begun, completion: several }), start)
  // Without a turn to continue, all of them are trained too.
  const plain = await labeled({ prompt: [user('Sky?')], completion: several, label: true })
  t.deepEqual(plain, ['[user]Sky?<eos>\n[assistant]« call<eos>»\n[tool]R<eos>\n[assistant]«x<eos>»'])
  t.deepEqual(await labeled({ prompt: 'Sky?', completion: several, label: true }), plain)
})

test('a turn without content is continued where its content would begin', async (t) => {
  const blank = [user('Sky?'), assistant('')]
  t.is(await asked({ prompt: blank }), '[user]Sky?<eos>\n[assistant]')
  t.deepEqual(await sft({ prompt: blank, completion: 'blue' }), ['[user]Sky?<eos>\n[assistant]«blue<eos>»'])
})

test('a turn that cannot be continued is an error that names it', async (t) => {
  const call = { type: 'function', function: { name: 'f', arguments: {} } }
  const called = [user('a'), { ...assistant(''), tool_calls: [call] }]
  const cases: [(row: object) => Promise<unknown>, object, RegExp][] = [
    [sft, { prompt: called, completion: 'b' }, /rows:1: prompt\[1\] has tool calls and cannot be continued/],
    [pairs, { prompt: called, chosen: 'b', rejected: 'c' }, /prompt\[1\] has tool calls/],
    [labeled, { prompt: called, completion: 'b', label: true }, /prompt\[1\] has tool calls/],
    [
      pairs,
      { prompt: begun, chosen: [user('Sky?'), assistant('blue')], rejected: ' no' },
      /chosen is a conversation that does not begin with the prompt/,
    ],
    [
      pairs,
      { messages: begun, chosen: ' blue', rejected: ' no' },
      /messages ends in a turn of the assistant that is none of the responses/,
    ],
  ]
  for (const [read, row, message] of cases) await t.throwsAsync(read(row), { code: 'ERR_DATA', message })
})

test('the answer that ends a whole conversation beside its responses is one of them, not a part of the prompt', async (t) => {
  const row = { messages: [user('Sky?'), assistant('blue')], chosen: 'blue', rejected: 'no' }
  const ask = '[user]Sky?<eos>\n[assistant]'
  t.deepEqual(await pairs(row), [`${ask}«blue<eos>»`, `${ask}«no<eos>»`])
  t.is(await asked(row), ask)
})

test('earlier turns that differ in their reasoning alone belong to the responses', async (t) => {
  const turn = (reasoning: string) => ({ ...assistant('b'), reasoning_content: reasoning })
  const whole = (reasoning: string, end: string) => [user('a'), turn(reasoning), user('c'), assistant(end)]
  const same = await pairs({ chosen: whole('r', 'd'), rejected: whole('r', 'e') })
  t.regex(same[0]!, /\[assistant\]b<eos>/)
  const apart = await pairs({ chosen: whole('r', 'd'), rejected: whole('s', 'e') })
  t.regex(apart[0]!, /\[assistant\]«b<eos>»/)
})

test('a continued turn that ends in calls keeps its beginning', (t) => {
  const origin = { source: 'rows', line: 1 }
  const call = { type: 'function', function: { name: 'f', arguments: {} } }
  const completion = [{ role: 'assistant', content: null, tool_calls: [call] }]
  const last = (prompt: Message[]) => {
    const example = readRow({ prompt, completion }, origin)
    return example.kind === 'messages' ? example.messages.at(-1) : null
  }
  t.deepEqual(last(begun), { ...assistant('It is'), tool_calls: [call] })
  t.deepEqual(last([user('Sky?'), assistant('')]), { ...assistant(''), tool_calls: [call], noContent: true })
})

test('the parts of a text are not those of the turn that it is joined with', (t) => {
  const said = { role: 'assistant', content: [{ type: 'text', text: 'A' }] }
  const called = { role: 'function_call', content: '<think>t</think>{"name": "f"}' }
  const example = readRow({ messages: [user('a'), said, called] }, { source: 'rows', line: 1 })
  const turn = example.kind === 'messages' ? example.messages[1]! : assistant('')
  t.is(turn.content, 'A<think>t</think>')
  t.false('contentParts' in turn)
})

test('a turn that the template renders in part is not continued, though another message quotes it whole', (t) => {
  const template = Template.fromSource(
    "{% for m in messages %}[{{ m.role }}]{{ m.content.split('</think>')[-1] if m.role == 'assistant' else m.content }}{% endfor %}",
  )
  const content = '<think>r</think>b'
  const messages = [user(content), assistant(content)]
  t.throws(() => template.prompt({ messages }, tokenizer), {
    code: 'ERR_DATA',
    message: /does not render messages\[1\]\.content as it is/,
  })
  t.is(
    template.prompt({ messages: [user(content), assistant('b')] }, tokenizer),
    `[user]${content}[assistant]b`,
  )
})

test('a completion may be the whole conversation, which begins with the prompt', async (t) => {
  const expected = ['[user]Sky?<eos>\n[assistant]«blue<eos>»']
  const completion = [user('Sky?'), assistant('blue')]
  for (const prompt of ['Sky?', user('Sky?'), [user('Sky?')]]) {
    t.deepEqual(await sft({ prompt, completion }), expected)
    t.deepEqual(await labeled({ prompt, completion, label: true }), expected)
    const pair = { prompt, chosen: completion, rejected: assistant('no') }
    t.deepEqual(await pairs(pair), [...expected, '[user]Sky?<eos>\n[assistant]«no<eos>»'])
  }
  t.deepEqual(await sft({ prompt: [user('Sky?')], system: 'S', completion }), [
    `[system]S<eos>\n${expected[0]}`,
  ])
  // Other turns follow the prompt.
  const further = { prompt: [user('Sky?'), assistant('blue')], completion: [user('No?'), assistant('no')] }
  t.deepEqual(await sft(further), [
    '[user]Sky?<eos>\n[assistant]blue<eos>\n[user]No?<eos>\n[assistant]«no<eos>»',
  ])
})
