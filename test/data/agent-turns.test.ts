import test from 'ava'
import { readPreference, readPrompt, readRow } from '../../lib/data/index.js'
import {
  asked,
  call,
  JSON_TEXT,
  messagesOf,
  origin,
  result,
  system,
  text,
  town,
} from '../helpers/agent-rows.js'
import { assistant, user } from '../helpers/response-rows.js'

test('calls and results in one message are turns one after another', (t) => {
  const answer = (...parts: object[]) =>
    messagesOf({ messages: [asked, { role: 'assistant', content: parts }] })
  const executed = (id: string, value: string) => [
    { type: 'tool-call', toolCallId: id, toolName: 'rain', input: town, providerExecuted: true },
    { type: 'tool-result', toolCallId: id, toolName: 'rain', output: { type: 'text', value } },
  ]
  const turn = (id: string) => ({ role: 'assistant', content: '', tool_calls: [call(id)], noContent: true })
  t.deepEqual(answer(...executed('c1', '3'), ...executed('c2', '4'), text('Done.')), [
    asked,
    turn('c1'),
    result('3'),
    turn('c2'),
    result('4', 'c2'),
    assistant('Done.'),
  ])
  // Messages of the AI SDK before parts have the text behind the calls.
  const invocation = { state: 'result', toolCallId: 'c1', toolName: 'rain', args: town, result: '3' }
  const old = { id: '1', role: 'assistant', content: 'Done.', toolInvocations: [invocation] }
  t.deepEqual(messagesOf({ messages: [asked, old] }), [asked, turn('c1'), result('3'), assistant('Done.')])
})

test('a text of a user beside results follows them, and reasoning after results begins a turn', (t) => {
  const called = { role: 'assistant', content: [{ type: 'tool_use', id: 'c1', name: 'rain', input: town }] }
  const given = { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'c1' }, text('And?')] }
  t.deepEqual(messagesOf({ messages: [asked, called, given, assistant('b')] }).slice(2), [
    result(''),
    user('And?'),
    assistant('b'),
  ])
  const items = [
    { type: 'function_call', call_id: 'c1', name: 'rain', arguments: JSON_TEXT },
    { type: 'function_call_output', call_id: 'c1', output: '3' },
    { type: 'reasoning', content: [text('So.', 'reasoning_text')], summary: [text('-', 'summary_text')] },
    { role: 'assistant', content: 'Done.' },
  ]
  t.deepEqual(messagesOf({ messages: [asked, ...items] }).slice(3), [
    { ...assistant('Done.'), reasoning_content: 'So.' },
  ])
})

test('turns of items keep their masks', (t) => {
  const items = [
    { type: 'function_call', call_id: 'c1', name: 'rain', arguments: JSON_TEXT, train: false },
    { type: 'function_call_output', call_id: 'c1', output: '3' },
    { type: 'message', role: 'assistant', content: 'Done.' },
  ]
  const [, called, , said] = messagesOf({ messages: [asked, ...items] }) as { train?: boolean }[]
  t.deepEqual([called!.train, said!.train], [false, undefined])
})

test('numbers in the arguments of an agent stay as they were written', (t) => {
  const parts = [{ type: 'tool_use', id: 'c1', name: 'rain', input: { mm: new Number(1), id: 2n ** 60n } }]
  const [, said] = messagesOf({ messages: [asked, { role: 'assistant', content: parts }] })
  const [{ function: called }] = (said as { tool_calls: [{ function: { arguments: string } }] }).tool_calls
  t.is(called.arguments, '{"mm":1.0,"id":1152921504606846976}')
})

test('a refusal is what the assistant says', (t) => {
  const refusal = 'I cannot.'
  t.deepEqual(
    messagesOf({ messages: [asked, { role: 'assistant', content: null, refusal }] })[1],
    assistant(refusal),
  )
  const parts = [{ type: 'refusal', refusal }]
  t.deepEqual(messagesOf({ messages: [asked, { role: 'assistant', content: parts }] })[1], assistant(refusal))
})

test("an empty content beside LangChain's calls is none", (t) => {
  const said = { type: 'ai', content: '', tool_calls: [{ name: 'rain', args: town, id: 'c1' }] }
  t.like(messagesOf({ messages: [asked, said] })[1], { content: '', noContent: true })
})

test('preferences and prompts are read in the shapes of agents too', (t) => {
  const chosen = [{ role: 'assistant', content: [{ type: 'thinking', thinking: 'Hm.' }, text('Yes.')] }]
  const { responses } = readPreference({ prompt: [asked], chosen, rejected: [assistant('No.')] }, origin)
  t.like(responses[0], { messages: [asked, { content: 'Yes.', reasoning_content: 'Hm.' }] })
  const prompt = readPrompt({ instructions: 'S', input: [{ type: 'message', ...asked }] }, origin)
  t.like(prompt, { messages: [system, asked] })
})

const thinking = { type: 'thinking', thinking: 'Hm.' }
const use = { type: 'tool_use', id: 'c1', name: 'rain', input: town }
const refused: [string, object, RegExp][] = [
  [
    'an image',
    { content: [thinking, { type: 'image', source: {} }] },
    /messages\[0\]\.content\[1\] is of type "image"/,
  ],
  [
    'an image in a result',
    { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'c1', content: [{ type: 'image' }] }] },
    /content\[0\]\.content\[0\] is of type "image"/,
  ],
  ['a file', { parts: [{ type: 'file', url: 'x' }] }, /messages\[0\]\.parts\[0\] is of type "file"/],
  [
    'text after a call',
    { content: [use, text('And so.')] },
    /content\[1\] is text after calls of the same turn/,
  ],
  [
    'reasoning after text',
    { content: [text('a'), thinking] },
    /content\[1\] is reasoning after text of the same turn/,
  ],
  ['reasoning alone', { content: [thinking] }, /content\[0\] is reasoning without a text or a call/],
  [
    'reasoning twice',
    { reasoning_content: 'a', content: [thinking, text('b')] },
    /content\[0\] and reasoning_content both/,
  ],
  [
    'a call of a user',
    { role: 'user', content: [use] },
    /content\[0\] is a call, which a turn of user cannot have/,
  ],
  [
    'reasoning of a user',
    { role: 'user', content: [thinking] },
    /content\[0\] is reasoning, which a turn of user cannot/,
  ],
  [
    'reasoning beside that of another field',
    { thinking: 'a', content: [thinking, text('b')] },
    /content\[0\] and thinking both hold reasoning/,
  ],
  [
    'reasoning that differs from that of parts',
    { reasoning: 'a', parts: [{ type: 'reasoning', text: 'b' }, text('c')] },
    /messages\[0\]\.reasoning differs from the reasoning of parts/,
  ],
  [
    'a text that is none',
    { content: [use, { type: 'text', text: 5 }] },
    /content\[1\]\.text must be a string, got a number/,
  ],
  [
    'a result of Gemini that is none',
    { role: 'user', parts: [{ functionResponse: 'x' }] },
    /messages\[0\]\.parts\[0\]\.functionResponse must be an object, got a string/,
  ],
  [
    'a call of Gemini that is none',
    { parts: [{ functionCall: 'x' }] },
    /messages\[0\]\.parts\[0\]\.functionCall must be an object, got a string/,
  ],
  [
    'another call',
    { content: [use], tool_calls: [call('c9')] },
    /content\[0\] is a call that tool_calls beside it does not have/,
  ],
  [
    'a call without a name',
    { content: [{ ...use, name: undefined }] },
    /content\[0\]\.name must be a string, got nothing/,
  ],
  [
    'arguments that are none',
    { content: [{ ...use, input: [1] }] },
    /content\[0\]\.input must be an object, or JSON of one, got a list/,
  ],
  [
    'an unfinished call',
    { parts: [{ type: 'tool-rain', toolCallId: 'c1', state: 'input-streaming', input: {} }] },
    /parts\[0\] is a call whose input is not complete/,
  ],
  [
    'another content',
    { content: 'x', parts: [text('y')] },
    /messages\[0\]\.content differs from the text of parts/,
  ],
  [
    'no part of a model',
    { parts: [{ type: 'step-start' }] },
    /messages\[0\]\.content must be a string or a list of text parts/,
  ],
  [
    'attachments',
    { parts: [text('y')], experimental_attachments: [{}] },
    /experimental_attachments is not supported/,
  ],
  [
    'another item',
    { role: undefined, type: 'web_search_call', id: 'w' },
    /messages\[0\] is an item of type "web_search_call"/,
  ],
  [
    'calls that are no JSON',
    { role: undefined, type: 'ai', content: '', invalid_tool_calls: [{}] },
    /invalid_tool_calls holds calls/,
  ],
  [
    'an unknown class',
    { role: undefined, lc: 1, type: 'constructor', id: ['x', 'RemoveMessage'], kwargs: {} },
    /messages\[0\]\.id names no message of a known type, but "RemoveMessage"/,
  ],
]
for (const [name, message, expected] of refused) {
  test(`what no template can place is named: ${name}`, (t) => {
    const row = { messages: [{ role: 'assistant', ...message }] }
    t.throws(() => readRow(row, origin), { code: 'ERR_DATA', message: expected })
  })
}

test('parts of one turn are trained or not together', (t) => {
  const items = [
    { type: 'message', role: 'assistant', content: 'I look.', train: false },
    { type: 'function_call', call_id: 'c1', name: 'rain', arguments: JSON_TEXT },
  ]
  t.throws(() => readRow({ messages: [asked, ...items] }, origin), {
    message: /messages\[1\] begins a turn of which only one part is trained/,
  })
})

test('calls in a field beside parts are those of the turn, in whatever form, and repeats of them in parts are one', (t) => {
  const given = { name: 'rain', arguments: town }
  const own = { type: 'function', function: given }
  const said = (fields: object, ...parts: object[]) =>
    messagesOf({
      messages: [asked, { role: 'assistant', content: [thinking, text('a'), ...parts], ...fields }],
    })
  const forms = [{ tool_calls: JSON.stringify([given]) }, { tool_calls: given }, { tool_calls: [given] }]
  const repeats = [{ type: 'tool_use', name: 'rain', input: town }]
  for (const form of [...forms, { function_call: given }])
    for (const parts of [[], repeats])
      t.deepEqual(said(form, ...parts).slice(1), [
        { ...assistant('a'), reasoning_content: 'Hm.', tool_calls: [own] },
      ])
  // Without ids, name and arguments say which call it is.
  for (const other of [
    { name: 'snow', input: town },
    { name: 'rain', input: { town: 'Bonn' } },
  ])
    t.throws(() => said(forms[0]!, { type: 'tool_use', ...other }), {
      code: 'ERR_DATA',
      message: /messages\[1\]\.content\[2\] is a call that tool_calls beside it does not have/,
    })
  t.throws(() => said({ tool_calls: [null] }), { message: /messages\[1\]\.tool_calls\[0\] must be a call/ })
  t.throws(() => said({ tool_calls: [given], function_call: given }), { message: /both hold calls/ })
})

test('a repeated call stands before its result in the same message', (t) => {
  const content = [use, { type: 'tool_result', tool_use_id: 'c1', content: '3' }, text('Done.')]
  const turns = messagesOf({ messages: [asked, { role: 'assistant', content, tool_calls: [call('c1')] }] })
  t.deepEqual(turns.slice(1), [
    { role: 'assistant', content: '', tool_calls: [call('c1')], noContent: true },
    result('3'),
    assistant('Done.'),
  ])
})

test('reasoning in a field is that of the first turn of its message', (t) => {
  const called = { role: 'assistant', content: '', tool_calls: [call('c1')], noContent: true }
  const turns = [asked, { ...called, reasoning_content: 'Hm.' }, result('3'), assistant('Done.')]
  const invocation = { state: 'result', toolCallId: 'c1', toolName: 'rain', args: town, result: '3' }
  const old = { id: '1', role: 'assistant', reasoning: 'Hm.', toolInvocations: [invocation] }
  for (const content of ['Done.', [text('Done.')]])
    t.deepEqual(messagesOf({ messages: [asked, { ...old, content }] }), turns)
  const parts = [
    { type: 'tool-call', toolCallId: 'c1', toolName: 'rain', input: town },
    { type: 'tool-result', toolCallId: 'c1', toolName: 'rain', output: { type: 'text', value: '3' } },
    text('Done.'),
  ]
  const given = { role: 'assistant', reasoning_content: 'Hm.', content: parts }
  t.deepEqual(messagesOf({ messages: [asked, given] }), turns)
  const said = [asked, { ...assistant('Done.'), reasoning_content: 'Hm.' }]
  for (const own of [[], [{ type: 'reasoning', text: 'Hm.' }]]) {
    const message = { role: 'assistant', reasoning: 'Hm.', parts: [...own, text('Done.')] }
    t.deepEqual(messagesOf({ messages: [asked, message] }), said)
  }
})

test('a result has the name of its call alone', (t) => {
  const called = ['rain', 'snow'].map((name) => ({ functionCall: { name, args: {} } }))
  const results = [1, 2].map((mm) => ({ functionResponse: { response: { mm } } }))
  const turns = messagesOf({
    messages: [asked, { role: 'model', parts: called }, { role: 'user', parts: results }, assistant('b')],
  })
  t.deepEqual(turns.slice(2, 4), [
    { role: 'tool', content: '{"mm":1}' },
    { role: 'tool', content: '{"mm":2}' },
  ])
})
