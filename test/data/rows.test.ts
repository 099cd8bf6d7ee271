import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type RowSource, readRow, spoolRows } from '../../lib/data/index.js'
import { readRows, sourcesOf } from '../../lib/data/sources.js'
import { PosttrainError } from '../../lib/errors.js'
import { hash32 } from '../../lib/random.js'
import { newFolder } from '../helpers/scratch.js'

async function folder(t: ExecutionContext): Promise<string> {
  const path = newFolder(t)
  return path
}

async function all(source: RowSource): Promise<unknown[]> {
  const rows: unknown[] = []
  for await (const { row, failure } of readRows(source)) {
    if (failure !== undefined) throw failure
    rows.push(row)
  }
  return rows
}

const origin = { source: 'rows.jsonl', line: 7 }
const kinds: [string, object, object][] = [
  ['text', { text: 'a' }, { kind: 'text', text: 'a' }],
  ['completion', { prompt: 'a', completion: 'b' }, { kind: 'completion', prompt: 'a', completion: 'b' }],
  [
    'instruction',
    { instruction: 'a', input: 'b', output: 'c', system: 's' },
    {
      kind: 'messages',
      messages: [
        { role: 'system', content: 's' },
        { role: 'user', content: 'a\nb', instruction: 'a', input: 'b' },
        { role: 'assistant', content: 'c' },
      ],
    },
  ],
  [
    'history',
    { instruction: 'c', output: 'd', history: [['a', 'b']] },
    {
      kind: 'messages',
      messages: [
        { role: 'user', content: 'a' },
        { role: 'assistant', content: 'b' },
        { role: 'user', content: 'c' },
        { role: 'assistant', content: 'd' },
      ],
    },
  ],
  [
    'conversations',
    {
      conversations: [
        { from: 'human', value: 'a' },
        { from: 'gpt', value: 'b' },
      ],
      tools: '[{"name": "f"}]',
    },
    {
      kind: 'messages',
      messages: [
        { role: 'user', content: 'a' },
        { role: 'assistant', content: 'b' },
      ],
      tools: [{ type: 'function', function: { name: 'f' } }],
    },
  ],
  [
    'prompt and completion of messages',
    { prompt: [{ role: 'user', content: 'a' }], completion: [{ role: 'assistant', content: 'b' }] },
    {
      kind: 'messages',
      messages: [
        { role: 'user', content: 'a', train: false },
        { role: 'assistant', content: 'b' },
      ],
    },
  ],
  [
    'completion that continues a message of the prompt',
    { prompt: [{ role: 'assistant', content: 'a' }], completion: [{ role: 'assistant', content: 'b' }] },
    {
      kind: 'messages',
      messages: [{ role: 'assistant', content: 'ab' }],
      prefill: { index: 0, message: { role: 'assistant', content: 'a' } },
    },
  ],
]
for (const [kind, row, example] of kinds) {
  test(`a row of the kind ${kind} is found from its fields`, (t) => {
    t.deepEqual(readRow(row, origin), { ...example, weight: 1 } as never)
    t.is(readRow({ ...row, weight: 0.5 }, origin).weight, 0.5)
  })
}

const bad: [unknown, RegExp][] = [
  [5, /^rows\.jsonl:7: a row must be an object, got a number/],
  [{ ['k'.repeat(1e6)]: 1 }, /^rows\.jsonl:7: unknown kind of row, with the fields k{60}\.\.\.: expected/],
  [{ foo: 1 }, /^rows\.jsonl:7: unknown kind of row, with the fields foo: expected messages/],
  [
    { instruction: 'a' },
    /^rows\.jsonl:7: output is missing: expected instruction \+ output; the row has instruction: rename its columns, or make such rows in TypeScript/,
  ],
  [{ instruction: 'a', output: 3 }, /output must be a string, got a number/],
  [
    { prompt: 'a' },
    /completion is missing: .*; the row has prompt \(prompts alone are for ppo, grpo and rloo\)$/,
  ],
  [
    { prompt: 'a', chosen: 'b', rejected: 'c' },
    /completion is missing: .* \(rows with chosen and rejected are for dpo and reward\)$/,
  ],
  [
    { prompt: 'a', completion: 'b', label: false },
    /label false marks an undesirable response, which is not trained on/,
  ],
  [{ text: 'a', weight: -1 }, /weight must be a number of at least 0/],
  [{ messages: [] }, /messages must be a list of at least one message/],
  [
    { messages: [{ role: 'user', content: 1 }] },
    /messages\[0\]\.content must be a string or a list of text parts, got a number/,
  ],
  [{ messages: [{ content: 'a' }] }, /messages\[0\]\.role must be a string/],
  [
    { conversations: [{ from: 'alien', value: '' }] },
    /conversations\[0\]\.from has the unknown value "alien"/,
  ],
  [
    { messages: [{ role: 'assistant', content: '', train: 2 }] },
    /messages\[0\]\.train must be true, false, 0 or 1, got 2/,
  ],
  [{ messages: [{ role: 'user', content: 'a' }], tools: '{' }, /tools must be a list, or JSON of one/],
  [{ instruction: 'a', output: 'b', history: [['a']] }, /history\[0\] must be a pair of strings/],
]
for (const [row, message] of bad) {
  test(`a bad row says where and why: ${message.source}`, (t) => {
    t.throws(() => readRow(row, origin), { instanceOf: PosttrainError, code: 'ERR_DATA', message })
  })
}

test('.jsonl, .json, .txt, lists and iterables give the same rows', async (t) => {
  const path = await folder(t)
  const rows = [{ text: 'a 😀' }, { text: '天空' }, { text: 'c' }]
  await writeFile(join(path, 'a.jsonl'), `\uFEFF${rows.map((row) => JSON.stringify(row)).join('\r\n\n')}`)
  await writeFile(join(path, 'a.json'), JSON.stringify(rows, null, 1))
  await writeFile(join(path, 'a.txt'), `\n${rows.map(({ text }) => text).join('\n\n\n')}\n`)
  for (const name of ['a.jsonl', 'a.json', 'a.txt']) t.deepEqual(await all(join(path, name)), rows, name)
  t.deepEqual(await all(rows), rows)
  t.deepEqual(
    await all(
      (async function* () {
        yield* rows
      })(),
    ),
    rows,
  )
})

test('a spooled iterable is read again as it was', async (t) => {
  const path = join(await folder(t), 'rows.jsonl')
  const rows = [{ text: 'a\n' }, { instruction: 'b', output: 'c' }]
  await spoolRows(
    (async function* () {
      yield* rows
    })(),
    path,
  )
  t.deepEqual(await all(path), rows)
})

test('files that cannot be rows say so', async (t) => {
  const path = await folder(t)
  await mkdir(join(path, 'folder.jsonl'))
  await writeFile(join(path, 'a.csv'), 'a,b')
  await writeFile(join(path, 'word.json'), 'text')
  await writeFile(join(path, 'more.json'), '[{"text": "a"}] []')
  await writeFile(join(path, 'cut.json'), '[{"text": "a"}, {"te')
  await writeFile(
    join(path, 'latin.jsonl'),
    Buffer.concat([Buffer.from('{"text": "a"}\n{"text": "'), Buffer.of(0xc4, 0xe3), Buffer.from('"}\n')]),
  )
  await writeFile(
    join(path, 'latin.json'),
    Buffer.concat([Buffer.from('[{"text": "'), Buffer.of(0xc4, 0xe3), Buffer.from('"}]')]),
  )
  const cases: [string, RegExp][] = [
    ['none.jsonl', /none\.jsonl does not exist/],
    ['folder.jsonl', /is a folder: name the data files in it/],
    ['a.csv', /must end in \.jsonl, \.json or \.txt/],
    ['word.json', /word\.json:1: the row is not valid JSON/],
    ['more.json', /not a JSON list of rows: something follows the end of the list/],
    ['cut.json', /not a JSON list of rows: the list has no end/],
    ['latin.json', /latin\.json:1: the text is not UTF-8/],
    ['latin.jsonl', /latin\.jsonl:2: the text is not UTF-8/],
  ]
  for (const [name, message] of cases) {
    await t.throwsAsync(
      all(join(path, name)),
      { instanceOf: PosttrainError, code: 'ERR_DATA', message },
      name,
    )
  }
})

test('a mix is known from its fields, and its weights are checked', (t) => {
  t.is(
    sourcesOf([
      { data: 'a.jsonl', weight: 1 },
      { data: [], weight: 0.2 },
    ]).length,
    2,
  )
  t.is(sourcesOf([{ text: 'a', weight: 1 }]).length, 1)
  t.throws(() => sourcesOf([{ data: 'a.jsonl', weight: 0 }]), { code: 'ERR_INVALID_ARGUMENT' })
})

test('3,000 spoiled .jsonl files give rows or typed errors', async (t) => {
  const path = await folder(t)
  const whole = Buffer.from(
    [
      { instruction: '1加1等于几?', output: '2' },
      {
        messages: [
          { role: 'user', content: 'a' },
          { role: 'assistant', content: 'b', train: true },
        ],
      },
      {
        conversations: [
          { from: 'human', value: '😀' },
          { from: 'gpt', value: 'ok' },
        ],
      },
      { prompt: 'a', completion: 'b', weight: 2 },
    ]
      .map((row) => JSON.stringify(row))
      .join('\n'),
  )
  let refusals = 0
  for (let n = 0; n < 3000; n++) {
    const bytes = Buffer.from(whole)
    for (let k = 0; k <= n % 4; k++)
      bytes[hash32(3, n, 2 * k) % bytes.length] = hash32(3, n, 2 * k + 1) & 0xff
    const cut = n % 3 === 0 ? bytes.subarray(0, hash32(4, n, 0) % bytes.length) : bytes
    const kind = n % 10 === 0 ? 'json' : 'jsonl'
    const file = join(path, `rows.${kind}`)
    await writeFile(file, kind === 'json' ? Buffer.concat([Buffer.from('['), cut, Buffer.from(']')]) : cut)
    try {
      for await (const { row, origin: at, failure } of readRows(file)) {
        if (failure !== undefined) throw failure
        readRow(row, at)
      }
    } catch (error) {
      refusals++
      if (!(error instanceof PosttrainError))
        t.fail(`case ${n}: ${(error as Error).stack}\n${await readFile(file)}`)
    }
  }
  t.true(refusals > 1000, `${refusals} refusals`)
})

test('a passage in objects is missed like one in a text, and found in a question with other spaces', (t) => {
  const about = { query: 'Which town?', answer: 'Ulm' }
  for (const passage of [
    { documents: [{ title: 't', text: 'some text here' }] },
    { passages: { passage_text: ['some text here'] } },
  ])
    t.throws(() => readRow({ ...about, ...passage }, origin), { message: /has no place beside query/ })
  const held = { question: 'Read:\nfoo  bar\n\nQ', passage: 'foo bar', answer: 's' }
  t.like(readRow(held, origin), { completion: 's' })
})
