import test from 'ava'
import {
  loadDataset,
  loadPreferences,
  loadUnpaired,
  type PreferenceRow,
  readPreference,
  readPrompt,
  readRow,
  readUnpaired,
  type UnpairedRow,
} from '../../lib/data/index.js'
import { rowKindOf } from '../../lib/data/rows/row-kind.js'
import { assistant, options, user } from '../helpers/response-rows.js'

const origin = { source: 'rows.jsonl', line: 7 }
const json = JSON.stringify
const system = { role: 'system', content: 'S' }
const human = { from: 'human', value: 'a' }
const asked = [user('a')]
const whole = [user('a'), assistant('b')]
const longer = [...whole, user('c'), assistant('d')]
/** A pair as responses after the same prompt. */
const pair = { chosen: [user('a'), assistant('b')], rejected: [user('a'), assistant('c')] }

type Turn = { role: string; content: string }

/** What a reader makes of a row, as messages: a string prompt is a turn of the user, its completion one of the assistant. */
function turns(example: unknown): unknown[] {
  const {
    messages,
    prompt,
    completion,
    earlier = [],
  } = example as {
    messages?: Turn[]
    prompt: string
    completion: string
    earlier?: Turn[]
  }
  const all = messages ?? [...earlier, user(prompt), assistant(completion)]
  return all.map(({ role, content }) => ({ role, content }))
}

/** Rows in the shapes of public data sets and of other programs. */
const conversations: Record<string, [row: object, expected: unknown[]]> = {
  Dolly: [{ instruction: 'a', context: 'C', response: 'b' }, [user('a\nC'), assistant('b')]],
  'Dolly without a context': [{ instruction: 'a', context: '', response: 'b' }, whole],
  'Alpaca with an empty instruction': [{ instruction: '', input: 'a', output: 'b' }, whole],
  MATH: [{ problem: 'a', level: 'Level 5', type: 'Algebra', solution: 'b' }, whole],
  LIMO: [{ question: 'a', solution: 'b', answer: '42' }, whole],
  FLAN: [{ inputs: 'a', targets: 'b', task: 't' }, whole],
  'prompt and output': [{ prompt: 'a', output: 'b' }, whole],
  'instruction and completion': [{ instruction: 'a', completion: 'b' }, whole],
  OpenOrca: [{ id: 'x', system_prompt: 'S', question: 'a', response: 'b' }, [system, ...whole]],
  'a system message': [{ system_message: 'S', prompt: 'a', completion: 'b' }, [system, ...whole]],
  LIMA: [{ conversations: ['a', 'b', 'c', 'd'], source: 's' }, longer],
  Capybara: [
    {
      conversation: [
        { input: 'a', output: 'b' },
        { input: 'c', output: 'd' },
      ],
    },
    longer,
  ],
  'turns of user and assistant': [{ conversations: [{ user: 'a', assistant: 'b' }] }, whole],
  'ShareGPT with items': [{ id: 'x', items: [human, { from: 'bing', value: 'b' }] }, whole],
  'an OpenAssistant thread': [{ messages: [{ role: 'prompter', text: 'a' }, assistant('b')] }, whole],
  'roles of LangSmith': [
    {
      messages: [
        { role: 'human', content: 'a' },
        { role: 'ai', content: 'b' },
      ],
    },
    whole,
  ],
  speakers: [
    {
      messages: [
        { speaker: 'User', text: 'a' },
        { speaker: 'Assistant', text: 'b' },
      ],
    },
    whole,
  ],
  'PaLM on Vertex': [
    {
      messages: [
        { author: 'user', content: 'a' },
        { author: 'bot', content: 'b' },
      ],
    },
    whole,
  ],
  Gemini: [
    {
      systemInstruction: { parts: [{ text: 'S' }] },
      contents: [
        { role: 'user', parts: [{ text: 'a' }] },
        { role: 'model', parts: [{ text: 'b' }] },
      ],
    },
    [system, ...whole],
  ],
  Bedrock: [
    {
      schemaVersion: 'bedrock-conversation-2024',
      system: [{ text: 'S' }],
      messages: [
        { role: 'user', content: [{ text: 'a' }] },
        { role: 'assistant', content: [{ text: 'b' }] },
      ],
    },
    [system, ...whole],
  ],
  'a prompt that holds a dialog': [
    { prompt: '\n\nHuman: a\n\nAssistant:', completion: ' b' },
    [user('\n\nHuman: a\n\nAssistant:'), assistant(' b')],
  ],
  'a content that is one part': [
    { messages: [{ role: 'user', content: { type: 'text', text: 'a' } }, assistant('b')] },
    whole,
  ],
  'messages that are empty beside a prompt': [{ messages: [], prompt: 'a', completion: 'b' }, whole],
  'messages as JSON in a prompt': [{ prompt: json(asked), completion: json([assistant('b')]) }, whole],
}
for (const [shape, [row, expected]] of Object.entries(conversations)) {
  test(`a row of ${shape} is a conversation`, (t) => {
    t.is(rowKindOf(row, origin), 'sft')
    t.deepEqual(turns(readRow(row, origin)), expected)
    const { text, messages = [...(expected.length > 2 ? expected.slice(0, -2) : []), user(text)] } =
      readPrompt(row, origin) as unknown as { text: string; messages: unknown[] }
    t.deepEqual(turns({ messages }), expected.slice(0, -1))
  })
}

const preferences: Record<string, object> = {
  'Orca pairs': { input: 'a', chosen: 'b', rejected: 'c', rating: [9, 8] },
  'chosen and rejected responses': { instruction: 'a', chosen_response: 'b', rejected_response: 'c' },
  'OpenAI with messages within input': {
    input: { messages: asked, tools: [] },
    preferred_output: [assistant('b')],
    non_preferred_output: [assistant('c')],
  },
  'ms-swift with messages': { messages: whole, rejected_response: 'c' },
  'ms-swift with rejected messages': { messages: whole, rejected_messages: [user('a'), assistant('c')] },
  'ms-swift with messages as JSON': { messages: json(whole), rejected_response: 'c' },
  'ms-swift with messages and a response': { messages: asked, response: 'b', rejected_response: 'c' },
  'an instruction with a rejected response': { instruction: 'a', output: 'b', rejected_response: 'c' },
  'responses with a rank of another thing': { prompt: 'a', responses: ['b', 'c'], rank: 5 },
  'ms-swift with a query': { query: 'a', response: 'b', rejected_response: 'c' },
  'Capybara pairs': { conversation: [{ input: 'a', output: 'x' }], ...pair },
  'messages as JSON': { prompt: 'a', chosen: json(pair.chosen), rejected: json(pair.rejected) },
  'responses with scores': { prompt: 'a', responses: ['c', 'b'], scores: [1, 9.5] },
  'responses with ratings': { prompt: 'a', responses: ['c', 'b'], ratings: [1, 9.5] },
  'responses with a reward each': { prompt: 'a', responses: ['c', 'b'], reward: [1, 9.5], rewards: 3 },
  'responses with other numbers': { prompt: 'a', responses: ['b', 'c'], lengths: [1, 2], rating: 4 },
  'responses with ranks': { prompt: 'a', responses: ['c', 'b'], ranks: [2, 1] },
}
for (const [shape, row] of Object.entries(preferences)) {
  test(`a row of ${shape} is a pair`, (t) => {
    t.is(rowKindOf(row, origin), 'preference')
    t.deepEqual(readPreference(row, origin).responses.map(turns), [pair.chosen, pair.rejected])
  })
}

test('a prompt that holds a dialog is raw, as the dialogs of pairs are', (t) => {
  const prompt = '\n\nHuman: a\n\nAssistant:'
  t.like(readRow({ prompt, completion: ' b' }, origin), { kind: 'completion', dialog: true })
  t.like(readPrompt({ prompt }, origin), { dialog: true })
  for (const response of readPreference({ prompt, chosen: ' b', rejected: ' c' }, origin).responses)
    t.like(response, { dialog: true })
  const whole = { prompt, chosen: `${prompt} b`, rejected: `${prompt} c` }
  t.deepEqual(readPreference(whole, origin), readPreference({ prompt, chosen: ' b', rejected: ' c' }, origin))
  t.like(readPrompt(whole, origin), { text: prompt, dialog: true })
  t.false('dialog' in readRow({ prompt: 'Human: a', completion: 'b' }, origin))
})

test('answers that are calls of the tools beside them are calls', (t) => {
  const call = { name: 'f', arguments: { a: 1 } }
  const tools = [{ name: 'f', description: 'F', parameters: {} }]
  for (const answers of [[call], json([call])])
    t.like(readRow({ id: 0, query: 'a', answers, tools: json(tools) }, origin), {
      messages: [user('a'), { role: 'assistant', content: '', tool_calls: [{ function: call }] }],
    })
  t.throws(() => readRow({ query: 'a', answers: ['b'], tools }, origin), { message: /completion is missing/ })
})

test('a tool of Gemini holds several definitions', (t) => {
  const parameters = { type: 'object', properties: {} }
  const [f, g] = [
    { name: 'f', parameters },
    { name: 'g', parameters },
  ]
  for (const name of ['functionDeclarations', 'function_declarations'])
    t.like(readRow({ messages: whole, tools: [{ [name]: [f, g] }] }, origin), {
      tools: [
        { type: 'function', function: f },
        { type: 'function', function: g },
      ],
    })
  t.throws(() => readRow({ messages: whole, tools: [{ functionDeclarations: [{}] }] }, origin), {
    message: /tools\[0\]\.functionDeclarations\[0\] must be the definition of a function/,
  })
})

test('a label is true or false, or 1 or 0', (t) => {
  for (const [label, desirable] of [
    [1, true],
    [0, false],
    [true, true],
  ] as const) {
    const row = { instruction: 'a', completion: 'b', label }
    t.is(rowKindOf(row, origin), 'unpaired')
    const read = readUnpaired(row, origin)
    t.is(read.desirable, desirable)
    t.deepEqual(turns(read.example), whole)
  }
  t.is(rowKindOf({ text: 'a', label: 1 }, origin), 'sft')
})

test('a row without a chosen response is not told that its messages are rows', (t) => {
  for (const row of [{ messages: asked }, { messages: asked, rejected_response: 'c' }])
    t.throws(() => readPreference(row, origin), { message: /^(?!.*holds the rows).*chosen is missing/ })
})

test('numbers that may order responses in another way are errors that name them', (t) => {
  const responses = ['b', 'c']
  for (const beside of [{ labels: [0, 1] }, { ranking: [2, 1] }, { all_rm_scores: [1, 2] }])
    t.throws(() => readPreference({ prompt: 'a', responses, ...beside }, origin), {
      code: 'ERR_DATA',
      message: new RegExp(`^rows\\.jsonl:7: ${Object.keys(beside)[0]} may say which response is best`),
    })
  const own = responses.map((text, i) => ({ ...assistant(text), score: i }))
  t.throws(() => readPreference({ prompt: 'a', responses: own }, origin), {
    message: /^rows\.jsonl:7: responses\[0\]\.score may say which response is best/,
  })
  t.notThrows(() => readPreference({ prompt: 'a', responses: own, scores: [1, 2] }, origin))
  t.notThrows(() => readPreference({ prompt: 'a', responses, labels: ['x', 'y'], rank: 3 }, origin))
})

test('responses with equal scores make no pair', async (t) => {
  const rows = [{ prompt: 'a', responses: ['b', 'c', 'd'], scores: [1, 2, 1] }]
  const { train } = await loadPreferences(rows, options)
  t.deepEqual(
    train.groups.map(({ pairs }) => pairs.map(({ chosen, rejected }) => [chosen, rejected])),
    [
      [
        [0, 1],
        [0, 2],
      ],
    ],
  )
  await t.throwsAsync(loadPreferences([{ prompt: 'a', responses: ['b', 'c'], scores: [1] }], options), {
    message: /^rows:1: scores must be a list of 2 numbers, one for each response/,
  })
})

const refused: [row: object, message: RegExp][] = [
  [
    { question: 'a', context: 'C', answer: 'b' },
    /^rows\.jsonl:7: context has no place beside question: write it into/,
  ],
  [{ question: 'a', passage: 'P q', answer: 'b' }, /passage has no place beside question: write it into/],
  [{ question: 'a', article: 'P q', options: ['b'], answer: 'b' }, /article has no place beside question/],
  [{ query: 'a', documents: ['P q', 'R'], response: 'b' }, /documents has no place beside query/],
  [{ definition: 'Do it.', inputs: 'a', targets: 'b' }, /definition has no place beside inputs/],
  [{ prompt: 'a', input: 'C', completion: 'b' }, /input has no place beside prompt/],
  [{ instruction: 'a', input: 'I', context: 'C', output: 'b' }, /context has no place beside instruction/],
  [{ question: 'a', answer: 4 }, /^rows\.jsonl:7: answer must be a string, got a number$/],
  [
    { text: 'a', role: 'prompter', parent_id: null },
    /text is one message, of "prompter": a row is a whole conversation/,
  ],
  [
    { role: 'user', content: 'a' },
    /\(a row is a whole conversation: put its messages into one list, messages\)$/,
  ],
  [{ prompt: { role: 'prompter', text: 'a', replies: [{}] } }, /completion is missing/],
  [{ Prompt: 'a', Completion: 'b' }, /with the fields Prompt, Completion: .*\(rename "Prompt" to prompt\)$/],
  [
    { prompt: 'a', chosen: 'b', rejected: 'c' },
    /completion is missing: .* \(rows with chosen and rejected are for dpo and reward\)$/,
  ],
  [{ input_ids: [1], labels: [1] }, /token ids are not read/],
  [{ segments: [{ label: true, text: 'a' }] }, /masked segments are not read/],
  [
    { messages: [{ from: 'Bob', value: 'a' }] },
    /messages\[0\]\.from has the unknown value "Bob": expected user/,
  ],
  [{ prompt: ['a', 'b'], completion: ['c', 'd'] }, /prompt\[0\] must be an object, got a string/],
]
for (const [row, message] of refused) {
  test(`what is wrong is said by the row's own names: ${message.source}`, (t) => {
    t.throws(() => readRow(row, origin), { code: 'ERR_DATA', message })
  })
}

test('what a prompt holds already may stand beside it, and columns of messages are not part of them', (t) => {
  t.notThrows(() => readRow({ prompt: 'C a', context: 'C', completion: 'b' }, origin))
  const row = { prompt: 'Passage A. Passage B.\n\nQ?', completion: 'b' }
  for (const context of [['Passage A.', 'Passage B.'], 'Passage B.\n', { a: ['Q?'], b: null }, 0, [], {}])
    t.notThrows(() => readRow({ ...row, context }, origin), JSON.stringify(context))
  const endless: unknown[] = []
  endless.push(endless)
  for (const context of [['Passage A.', 'Passage C.'], { title: ['T'] }, endless])
    t.throws(() => readRow({ ...row, context }, origin), {
      code: 'ERR_DATA',
      message: /context has no place/,
    })
  t.notThrows(() => readRow({ messages: whole, context: 'C' }, origin))
  for (const beside of [
    { document: 'report.pdf' },
    { documents: ['d1', 'd2'] },
    { article: 7 },
    { passage: 'A b' },
  ])
    t.notThrows(
      () => readRow({ question: 'A b. Q?', answer: 'b', ...beside }, origin),
      JSON.stringify(beside),
    )
  t.notThrows(() => readRow({ prompt: 'Q?', article: 'P q', completion: 'b' }, origin))
  t.notThrows(() => readPrompt({ prompt: 'a', context: 'C' }, origin))
})

test('the report counts columns that are not read', async (t) => {
  const rows = [
    { prompt: 'P', completion: 'a', id: 7, source: null, chosen: 'x' },
    { prompt: 'P', response: 'b', id: 0, answer: 'c' },
  ]
  const loading = { ...options, trainOn: 'assistant', overflow: 'truncate', needsStop: false } as const
  const { train } = await loadDataset(rows, loading)
  t.deepEqual(train.report.unreadColumns, { id: 2, chosen: 1, answer: 1 })
  const pairs = [{ prompt: 'P', chosen: 'a', rejected: 'b', response: 'a', margin: 1 }]
  t.deepEqual((await loadPreferences(pairs, options)).train.report.unreadColumns, { response: 1 })
  const gold = { ...pairs[0]!, answer: '4', margin: undefined }
  t.deepEqual((await loadUnpaired([gold], options)).train.report.unreadColumns, { response: 1, answer: 1 })
  // What ms-swift calls the response is what was chosen.
  const swift = { query: 'P', response: 'a', rejected_response: 'b', answer: 'c' }
  const chosen = swift as unknown as PreferenceRow & UnpairedRow
  t.deepEqual((await loadPreferences([chosen], options)).train.report.unreadColumns, { answer: 1 })
  t.deepEqual((await loadUnpaired([chosen], options)).train.report.unreadColumns, { answer: 1 })
  const labeled = { ...chosen, label: true }
  t.deepEqual((await loadUnpaired([labeled], options)).train.report.unreadColumns, {
    answer: 1,
    rejected_response: 1,
  })
})
