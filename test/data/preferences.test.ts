import test from 'ava'
import {
  type DataSource,
  loadPreferences,
  type PreferenceRow,
  plainTemplate,
  preferenceLoader,
  readPreference,
  Template,
  type Validation,
} from '../../lib/data/index.js'
import { assistant, chat, drain, marked, options, tokenizer, user } from '../helpers/response-rows.js'

const load = (rows: DataSource, given: Partial<typeof options> & { validation?: Validation } = {}) =>
  loadPreferences(rows, { ...options, ...given })

const still = { batchSize: 100, shuffle: false, seed: 0 }

/** The only batch of all rows, in their order. */
async function batchOf(rows: DataSource, given: Partial<typeof options> = {}) {
  const { train } = await load(rows, given)
  const [batch] = await drain(preferenceLoader(train, still).epoch(0))
  return batch!
}

const pairs = (count: number): PreferenceRow[] =>
  Array.from({ length: count }, (_, i) => ({
    prompt: `Q${i}:`,
    chosen: ` yes${i}`,
    rejected: ' no',
    margin: i,
  }))

test('texts are taken verbatim: spaces of the prompt go to the response, and an end of text closes it', async (t) => {
  const batch = await batchOf([{ prompt: 'Sky?  ', chosen: 'blue', rejected: 'no' }])
  t.deepEqual(marked(batch), ['Sky?«  blue<eos>»', 'Sky?«  no<eos>»'])
  t.deepEqual([...batch.pairs], [0, 1])
  t.is(batch.count, 1)
  t.is(batch.tokens, batch.inputIds.length)
  t.deepEqual(batch.rowNames, ['rows:1'])
})

test('every form of a conversation gives the same pair, which ends at its terminator', async (t) => {
  const expected = ['[user]Sky?<eos>\n[assistant]«blue<eos>»', '[user]Sky?<eos>\n[assistant]«no<eos>»']
  const chosen = [user('Sky?'), assistant('blue')]
  const rejected = [user('Sky?'), assistant('no')]
  // Keys in another order are the same message.
  const turned = rejected.map(({ role, content }) => ({ content, role }))
  const asked = [{ from: 'human', value: 'Sky?' }]
  const [good, bad] = [
    { from: 'gpt', value: 'blue' },
    { from: 'gpt', value: 'no' },
  ]
  const forms: Record<string, unknown> = {
    'messages and messages': {
      prompt: [user('Sky?')],
      chosen: [assistant('blue')],
      rejected: [assistant('no')],
    },
    'messages and texts': { prompt: [user('Sky?')], chosen: 'blue', rejected: 'no' },
    'messages and one message': {
      prompt: [user('Sky?')],
      chosen: assistant('blue'),
      rejected: assistant('no'),
    },
    'a text and messages': { prompt: 'Sky?', chosen: [assistant('blue')], rejected: [assistant('no')] },
    'a text and both': { prompt: 'Sky?', chosen: [assistant('blue')], rejected: 'no' },
    'whole conversations': { chosen, rejected: turned },
    'whole conversations and their prompt': { prompt: [user('Sky?')], chosen, rejected: turned },
    'whole conversations and their prompt as a text': { prompt: 'Sky?', chosen, rejected: turned },
    'whole conversations, and one of them as messages': {
      prompt: 'Sky?',
      messages: chosen,
      chosen,
      rejected,
    },
    'an instruction': { instruction: 'Sky?', input: '', chosen: 'blue', rejected: 'no' },
    'an instruction and messages': { instruction: 'Sky?', chosen: [assistant('blue')], rejected: 'no' },
    'from and value': { conversations: asked, chosen: good, rejected: bad },
    'from and value, whole': { chosen: [...asked, good], rejected: [...asked, bad] },
    'columns of null': {
      prompt: [user('Sky?')],
      chosen: 'blue',
      rejected: 'no',
      margin: null,
      tools: null,
      responses: null,
      messages: null,
    },
    'a ranking': { prompt: [user('Sky?')], responses: ['blue', [assistant('no')]] },
    'a ranking of whole conversations': { responses: [chosen, turned] },
  }
  for (const [name, row] of Object.entries(forms)) {
    t.deepEqual(marked(await batchOf([row as PreferenceRow])), expected, name)
  }
})

test('the tokens before a response are those that generation is fed', async (t) => {
  const prompt = [{ role: 'system', content: 'Be brief.' }, user('A'), assistant('B'), user('C <eos> D')]
  for (const template of [chat, plainTemplate]) {
    const { inputIds, offsets, labels } = await batchOf([{ prompt, chosen: 'x', rejected: 'y' }], {
      template,
    })
    const start = labels.findIndex((label) => label !== -100)
    const asked = template.promptIds({ messages: prompt }, tokenizer)
    t.deepEqual(inputIds.slice(0, asked.length), asked)
    // The plain template's space belongs to the response.
    t.is(start, asked.length)
    t.is(inputIds[offsets[1]! - 1], tokenizer.eosId!)
  }
})

test('responses of the prompt are not trained again, a system turn is kept', async (t) => {
  const history = [user('A'), assistant('B'), user('C')]
  const system = '[system]S<eos>\n'
  const expected = (answer: string) =>
    `${system}[user]A<eos>\n[assistant]B<eos>\n[user]C<eos>\n[assistant]«${answer}<eos>»`
  const whole = (answer: string) => [...history, assistant(answer)]
  for (const row of [
    { conversations: history, system: 'S', chosen: assistant('x'), rejected: assistant('y') },
    { messages: [{ role: 'system', content: 'S' }, ...history], chosen: whole('x'), rejected: whole('y') },
    { instruction: 'C', history: [['A', 'B']], system: 'S', chosen: 'x', rejected: 'y' },
  ] as unknown as PreferenceRow[])
    t.deepEqual(marked(await batchOf([row])), [expected('x'), expected('y')])
})

test('a response of several turns is compared as a whole, but for what tools said', async (t) => {
  const row = {
    prompt: [user('Q')],
    chosen: [assistant('call'), { role: 'tool', content: 'R' }, assistant('x')],
    rejected: [assistant('y')],
  }
  t.deepEqual(marked(await batchOf([row])), [
    '[user]Q<eos>\n[assistant]«call<eos>»\n[tool]R<eos>\n[assistant]«x<eos>»',
    '[user]Q<eos>\n[assistant]«y<eos>»',
  ])
})

test('a ranking gives all its pairs, together as heavy as one', async (t) => {
  const batch = await batchOf([
    { prompt: 'P', chosen: 'a', rejected: 'b', margin: 2.5 },
    { prompt: 'Q', responses: ['1', '2', '3', '4'], margin: -1 },
  ])
  t.deepEqual(
    marked(batch),
    ['a', 'b'].map((x) => `P«${x}<eos>»`).concat(['1', '2', '3', '4'].map((x) => `Q«${x}<eos>»`)),
  )
  const ranked = [2, 3, 2, 4, 2, 5, 3, 4, 3, 5, 4, 5]
  t.deepEqual([...batch.pairs], [0, 1, ...ranked])
  t.deepEqual([...batch.margins], [2.5, -1, -1, -1, -1, -1, -1])
  t.deepEqual([...batch.pairWeights], [1, ...new Array(6).fill(1 / 6)])
  t.true(Math.abs(batch.count - 2) < 1e-12)
  t.deepEqual(batch.rowNames, ['rows:1', 'rows:2'])
})

test('a pair is dropped whole when a side is too long or both are the same, and is counted', async (t) => {
  const long = 'x'.repeat(40)
  const rows = [
    { prompt: 'P', chosen: 'a', rejected: long },
    { prompt: 'P', chosen: 'same', rejected: 'same' },
    { prompt: 'P', responses: ['1', long, '3', '3', '5'] },
  ]
  const { train } = await load(rows, { maxLength: 20 })
  const [batch] = await drain(preferenceLoader(train, still).epoch(0))
  t.deepEqual(marked(batch!), ['P«1<eos>»', 'P«3<eos>»', 'P«3<eos>»', 'P«5<eos>»'])
  t.deepEqual([...batch!.pairs], [0, 1, 0, 2, 0, 3, 1, 3, 2, 3])
  t.deepEqual([...batch!.pairWeights], new Array(5).fill(0.2))
  const { read, rows: answers, dropped, judgements, pairs: kept, brokenPairs, identical } = train.report
  t.deepEqual(
    { read, answers, dropped, judgements, kept, brokenPairs, identical },
    {
      read: 3,
      answers: 4,
      dropped: { badRow: 0, tooLong: 2, noLabels: 0, empty: 0 },
      judgements: 1,
      kept: 5,
      brokenPairs: 5,
      identical: 2,
    },
  )
  t.is(train.report.length.max, 3)
  t.is(train.report.tokens, 12)
  t.is(train.report.trainTokens, 8)
  await t.throwsAsync(load(rows.slice(0, 2), { maxLength: 20 }), {
    code: 'ERR_DATA',
    message:
      /no usable responses: of 2 rows 0 are bad, 1 responses too long \(maxLength 20\).* 1 pairs identical/,
  })
})

test('a prompt is never cut: a response is kept only if all of it fits', async (t) => {
  const row = { prompt: '12345', chosen: 'ab', rejected: 'cd' }
  const [first] = marked(await batchOf([row], { maxLength: 8 }))
  t.is(first, '12345«ab<eos>»')
  await t.throwsAsync(load([row], { maxLength: 7 }), { message: /2 responses too long/ })
})

test('an epoch has every prompt once, in an order that the seed and its number decide', async (t) => {
  const { train } = await load(pairs(11))
  const make = (seed: number) => preferenceLoader(train, { batchSize: 3, shuffle: true, seed })
  const namesOf = async (seed: number, epoch: number) =>
    (await drain(make(seed).epoch(epoch))).flatMap(({ rowNames }) => rowNames)
  const whole = await drain(make(4).epoch(1))
  t.is(whole.length, make(4).batchesIn(1))
  t.is(new Set(await namesOf(4, 1)).size, 11)
  t.deepEqual(await drain((await again()).epoch(1)), whole)
  t.deepEqual(await drain(make(4).epoch(1, { from: 2 })), whole.slice(2))
  t.deepEqual(await drain(make(4).epoch(1, { from: 4 })), [])
  t.notDeepEqual(await namesOf(4, 0), await namesOf(4, 1))
  t.notDeepEqual(await namesOf(5, 1), await namesOf(4, 1))
  // A margin goes where its pair goes.
  for (const { rowNames, margins } of whole)
    t.deepEqual(
      rowNames,
      Array.from(margins, (margin) => `rows:${margin + 1}`),
    )

  async function again() {
    return preferenceLoader((await load(pairs(11))).train, { batchSize: 3, shuffle: true, seed: 4 })
  }
})

test('the hash changes with ids, pairs and margins, and with nothing else', async (t) => {
  const hashOf = async (rows: DataSource) => (await load(rows)).train.hash
  const row = { prompt: 'P', chosen: 'a', rejected: 'b' }
  const first = await hashOf([row])
  t.is(await hashOf([{ ...row, note: 'of mine' }]), first)
  for (const other of [
    { ...row, margin: 1 },
    { ...row, chosen: 'c' },
    { ...row, chosen: 'b', rejected: 'a' },
    { prompt: 'P', responses: ['a', 'b', 'c'] },
  ])
    t.not(await hashOf([other]), first)
})

test('validation rows are taken by the seed or come from a source of their own; shared ones are counted', async (t) => {
  const { train, validation } = await load(pairs(10), { validation: { fraction: 0.3 } })
  const origins = [...train.groups, ...validation!.groups].map(({ origin }) => origin)
  t.is(train.groups.length, 7)
  t.is(new Set(origins).size, 10)
  t.not(train.hash, validation!.hash)
  t.is(train.report.sharedWithValidation, 0)
  t.like(train.report, { read: 7, rows: 14, judgements: 7, pairs: 7 })
  t.like(validation!.report, { read: 3, rows: 6, judgements: 3, pairs: 3 })
  const other = await load(pairs(10), { seed: 1, validation: { fraction: 0.3 } })
  t.notDeepEqual(other.train.groups, train.groups)

  const apart = await load(pairs(4), {
    validation: [...pairs(2), { prompt: 'P', chosen: 'a', rejected: 'b' }],
  })
  t.is(apart.train.report.sharedWithValidation, 2)
  const places = await Promise.all(
    [apart.train, apart.validation!].map(async (set) => {
      const [batch] = await drain(preferenceLoader(set, still).epoch(0))
      return [...batch!.places]
    }),
  )
  t.deepEqual(
    places.flat(),
    Array.from({ length: 14 }, (_, i) => i),
  )
  await t.throwsAsync(load(pairs(2), { validation: { fraction: 0.01 } }), { code: 'ERR_INVALID_ARGUMENT' })
})

test('rows that come again are counted: in every token, or in their words alone', async (t) => {
  const row = { prompt: 'P', chosen: 'a', rejected: 'b' }
  const { train } = await load([row, row, { ...row, chosen: 'A!' }, { ...row, chosen: 'b', rejected: 'a' }])
  t.deepEqual(train.report.duplicates, { exact: 1, near: 1 })
  t.is(train.report.judgements, 4)
})

test('bad rows are named with their field, or skipped and counted', async (t) => {
  const answers = { chosen: 'a', rejected: 'b' }
  const cases: [unknown, RegExp][] = [
    [7, /^rows:2: a row must be an object, got a number/],
    [{ prompt: 'P', chosen: 'a' }, /^rows:2: rejected is missing: expected chosen and rejected/],
    [{ prompt: 'P' }, /^rows:2: chosen is missing: expected chosen and rejected, or responses/],
    [answers, /^rows:2: prompt is missing/],
    [{ ...answers, prompt: 3 }, /^rows:2: prompt must be a text or messages, got a number/],
    [{ ...answers, prompt: 'P', margin: '2' }, /^rows:2: margin must be a finite number, got a string/],
    [{ ...answers, prompt: 'P', margin: 1 / 0 }, /^rows:2: margin must be a finite number, got Infinity/],
    [{ ...answers, prompt: 'P', weight: 2 }, /^rows:2: weight has no effect on preferences/],
    [
      { ...answers, prompt: [user('P')], chosen: [] },
      /^rows:2: chosen must be a list of at least one message/,
    ],
    [{ ...answers, prompt: [user('P')], chosen: 5 }, /^rows:2: chosen must be a text, a message or a list/],
    [
      { ...answers, prompt: 'P', rejected: [{ role: 'assistant' }] },
      /^rows:2: rejected\[0\]\.content must be/,
    ],
    [{ ...answers, prompt: 'P', chosen: [user('x')] }, /^rows:2: chosen must end with a response/],
    [{ prompt: 'P', responses: ['a'] }, /^rows:2: responses must be a list of at least two responses/],
    [{ prompt: 'P', responses: ['a', 2] }, /^rows:2: responses\[1\] must be/],
    [
      { chosen: [user('A'), assistant('x')], rejected: [user('B'), assistant('y')] },
      /^rows:2: rejected has another prompt than chosen: turn 1/,
    ],
    [
      { prompt: [user('Z')], chosen: [user('A'), assistant('x')], rejected: 'y' },
      /^rows:2: chosen is a conversation that does not begin with the prompt/,
    ],
  ]
  const good = { prompt: 'P', chosen: 'a', rejected: 'b' }
  for (const [row, message] of cases) {
    const rows = [good, row] as PreferenceRow[]
    await t.throwsAsync(load(rows), { code: 'ERR_DATA', message }, JSON.stringify(row))
    const { train } = await loadPreferences(rows, { ...options, onBadRow: 'skip' })
    t.is(train.report.dropped.badRow, 1)
    t.is(train.report.read, 2)
    t.regex(train.report.firstBadRow!, message)
    t.is(train.groups.length, 1)
  }
})

test('a template that refuses a row is named with its line', async (t) => {
  const strict = Template.fromSource(
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
  )
  const row = { prompt: [{ role: 'system', content: 'S' }, user('P')], chosen: 'a', rejected: 'b' }
  await t.throwsAsync(load([row], { template: strict }), {
    code: 'ERR_DATA',
    message: /^rows:1: .*no system turns/,
  })
})

test('data whose responses never end are refused', async (t) => {
  const endless = Template.fromSource(
    '{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}',
  )
  const row = { prompt: [user('P')], chosen: 'a', rejected: 'b' }
  await t.throwsAsync(load([row], { template: endless }), {
    code: 'ERR_DATA',
    message: /no row trains a stop token/,
  })
})

test('sources have no weight, and reading can be stopped', async (t) => {
  await t.throwsAsync(load([{ data: pairs(2), weight: 2 }]), { message: /no source weight/ })
  await t.throwsAsync(
    loadPreferences(pairs(2), { ...options, signal: AbortSignal.abort(new Error('enough')) }),
    { name: 'AbortError' },
  )
})

test('a turn of a developer begins a whole conversation like one of the system', (t) => {
  const origin = { source: 'rows.jsonl', line: 7 }
  const developer = { role: 'developer', content: 'S' }
  const whole = (text: string) => [developer, user('a'), assistant(text)]
  const expected = [
    [developer, user('a'), assistant('b')],
    [developer, user('a'), assistant('c')],
  ]
  const turns = ({ responses }: ReturnType<typeof readPreference>) =>
    responses.map((response) =>
      response.kind === 'messages' ? response.messages.map(({ train: _, ...message }) => message) : [],
    )
  const pair = { chosen: whole('b'), rejected: whole('c') }
  for (const row of [pair, { ...pair, prompt: 'a' }, { ...pair, prompt: [developer, user('a')] }])
    t.deepEqual(turns(readPreference(row, origin)), expected, JSON.stringify(Object.keys(row)))
  const without = { chosen: whole('b').slice(1), rejected: whole('c').slice(1) }
  t.deepEqual(turns(readPreference({ ...without, prompt: [developer, user('a')] }, origin)), expected)
})
