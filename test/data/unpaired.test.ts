import test from 'ava'
import {
  type DataSource,
  loadUnpaired,
  mismatched,
  type UnpairedRow,
  unpairedLoader,
} from '../../lib/data/index.js'
import { assistant, drain, marked, options, user } from '../helpers/response-rows.js'

const still = { batchSize: 100, shuffle: false, seed: 0 }

async function batchOf(rows: DataSource, given: Partial<typeof options> = {}) {
  const { train } = await loadUnpaired(rows, { ...options, ...given })
  const [batch] = await drain(unpairedLoader(train, still).epoch(0))
  return batch!
}

test('texts are taken verbatim, and each response has its label', async (t) => {
  const batch = await batchOf([
    { prompt: 'A: ', completion: 'x', label: true },
    { prompt: 'B:', completion: ' y', label: false },
  ])
  t.deepEqual(marked(batch), ['A:« x<eos>»', 'B:« y<eos>»'])
  t.deepEqual([...batch.desirable], [1, 0])
  t.is(batch.count, 2)
})

test('every form of a conversation gives the same row, whose last response is labeled', async (t) => {
  const history = [user('A'), assistant('B'), user('C')]
  const whole = [...history, assistant('x')]
  const forms: Record<string, unknown> = {
    messages: { messages: whole },
    'messages and messages': { prompt: history, completion: [assistant('x')] },
    'messages and a text': { prompt: history, completion: 'x' },
    'from and value': {
      conversations: whole.map(({ role, content }) => ({
        from: role === 'user' ? 'human' : 'gpt',
        value: content,
      })),
    },
    'an instruction': { instruction: 'C', history: [['A', 'B']], output: 'x' },
    'columns of null': { prompt: null, completion: null, messages: whole, weight: null },
  }
  for (const [name, row] of Object.entries(forms)) {
    for (const label of [{ label: false }, { kto_tag: false }, { label: null, kto_tag: false }]) {
      const batch = await batchOf([{ ...(row as object), ...label } as UnpairedRow])
      t.deepEqual(marked(batch), ['[user]A<eos>\n[assistant]B<eos>\n[user]C<eos>\n[assistant]«x<eos>»'], name)
      t.deepEqual([...batch.desirable], [0])
    }
  }
  const apart = await batchOf([{ prompt: 'A', completion: [assistant('x')], label: true }])
  t.deepEqual(marked(apart), ['[user]A<eos>\n[assistant]«x<eos>»'])
})

test('each prompt is put before the next response of the step, the last before the first, whatever its batches', async (t) => {
  const rows = ['1', '22', '333'].map((n) => ({ prompt: [user(`Q${n}`)], completion: `a${n}`, label: true }))
  const { train } = await loadUnpaired(rows, options)
  const document = (asked: string, said: string) => `[user]Q${asked}<eos>\n[assistant]«a${said}<eos>»`
  const exchanged = [document('1', '22'), document('22', '333'), document('333', '1')]
  for (const [batchSize, sizes] of [
    [3, [3]],
    [2, [2, 1]],
    [1, [1, 1, 1]],
  ] as const) {
    const batches = await drain(unpairedLoader(train, { ...still, batchSize }).epoch(0))
    const packs = mismatched(batches, options.maxLength).map(marked)
    t.deepEqual(
      packs.map(({ length }) => length),
      [...sizes],
    )
    t.deepEqual(packs.flat(), exchanged)
  }
  // Alone there is nothing to put it before.
  const [alone] = await drain(unpairedLoader(train, { ...still, batchSize: 1 }).epoch(0))
  t.deepEqual(mismatched([alone!], options.maxLength), [])
})

test('a pair without a label is a good and a bad response', async (t) => {
  const rows = [
    { prompt: 'P:', chosen: ' yes', rejected: ' no' },
    { chosen: [user('A'), assistant('x')], rejected: [user('A'), assistant('y')] },
    { prompt: 'Q:', completion: ' z', label: false },
    { prompt: 'R:', chosen: ' same', rejected: ' same' },
  ]
  const batch = await batchOf(rows)
  const asked = '[user]A<eos>\n[assistant]'
  const both = ['R:« same<eos>»', 'R:« same<eos>»']
  t.deepEqual(marked(batch), [
    ...['P:« yes<eos>»', 'P:« no<eos>»'],
    ...[`${asked}«x<eos>»`, `${asked}«y<eos>»`],
    ...['Q:« z<eos>»', ...both],
  ])
  t.deepEqual([...batch.desirable], [1, 0, 1, 0, 0, 1, 0])
  t.deepEqual(batch.rowNames, ['rows:1', 'rows:1', 'rows:2', 'rows:2', 'rows:3', 'rows:4', 'rows:4'])
  const long = { prompt: 'P:', chosen: 'x'.repeat(60), rejected: ' no' }
  const { train } = await loadUnpaired([...rows, long], { ...options, maxLength: 50 })
  t.like(train.report, { read: 5, rows: 8, judgements: 8 })
  t.is(train.report.dropped.tooLong, 1)
})

test('a mismatched pair is no longer than a row may be', async (t) => {
  const batch = await batchOf([
    { prompt: '12345', completion: 'a', label: true },
    { prompt: '1', completion: 'abcde', label: true },
  ])
  t.deepEqual(mismatched([batch], 7).map(marked), [['12345«ab»', '1«a<eos>»']])
})

test('too long rows are dropped and counted, the order is the seed and the epoch', async (t) => {
  const rows = Array.from({ length: 9 }, (_, i) => ({ prompt: `Q${i}`, completion: 'a', label: i % 2 === 0 }))
  const long = { prompt: 'x'.repeat(60), completion: 'a', label: true }
  const { train } = await loadUnpaired([...rows, long], { ...options, maxLength: 50 })
  t.is(train.report.dropped.tooLong, 1)
  t.deepEqual([train.report.read, train.report.rows, train.report.pairs], [10, 9, 0])
  const make = (seed: number) => unpairedLoader(train, { ...still, batchSize: 2, shuffle: true, seed })
  const whole = await drain(make(1).epoch(3))
  t.is(whole.length, make(1).batchesIn(3))
  t.is(new Set(whole.flatMap(({ rowNames }) => rowNames)).size, 9)
  for (const { rowNames, desirable } of whole)
    t.deepEqual(
      [...desirable],
      rowNames.map((name) => Number(name.slice(5)) % 2),
    )
  t.deepEqual(await drain(make(1).epoch(3, { from: 3 })), whole.slice(3))
  t.notDeepEqual(await drain(make(1).epoch(4)), whole)
})

test('the hash changes with a label, and a response labeled both ways is not an exact copy', async (t) => {
  const row = { prompt: 'P', completion: 'a', label: true }
  const of = async (...rows: UnpairedRow[]) => (await loadUnpaired(rows, options)).train
  t.not((await of(row)).hash, (await of({ ...row, label: false })).hash)
  t.is((await of(row, row)).report.duplicates.exact, 1)
  t.is((await of(row, { ...row, label: false })).report.duplicates.exact, 0)
})

test('bad rows are named with their field', async (t) => {
  const cases: [unknown, RegExp][] = [
    [{ prompt: 'P', completion: 'a' }, /^rows:1: label must be true or false, got nothing/],
    [{ prompt: 'P', completion: 'a', label: 2 }, /^rows:1: label must be true or false, got a number/],
    [
      { prompt: 'P', label: true },
      /^rows:1: completion must be a text, a message or a list of messages, got nothing/,
    ],
    [{ prompt: 7, completion: 'a', label: true }, /^rows:1: prompt must be a text or messages/],
    [{ messages: [user('P')], label: true }, /^rows:1: messages must end with the labeled response/],
    [{ text: 'a', label: true }, /^rows:1: text is not a response/],
    [{ label: true }, /^rows:1: unknown kind of row, with the fields label/],
    [{ prompt: 'P', completion: 'a', label: true, weight: 0.5 }, /^rows:1: weight has no effect/],
  ]
  for (const [row, message] of cases)
    await t.throwsAsync(
      loadUnpaired([row] as UnpairedRow[], options),
      { code: 'ERR_DATA', message },
      JSON.stringify(row),
    )
})

test('a pair is a good and a bad response, also with a true label beside it; a false one is an error', async (t) => {
  const pairs: object[] = [
    { prompt: 'A: ', chosen: 'x', rejected: 'y' },
    { chosen: 'A: x', rejected: 'A: y' },
    { prompt: [user('A')], chosen: [assistant('x')], rejected: [assistant('y')] },
    { messages: [user('A')], chosen: 'x', rejected: 'y' },
  ]
  const raw = ['A: «x<eos>»', 'A: «y<eos>»'].map((text) => text.replace(': «', ':« '))
  const turn = ['x', 'y'].map((said) => `[user]A<eos>\n[assistant]«${said}<eos>»`)
  for (const [i, pair] of pairs.entries()) {
    for (const label of [{}, { label: true }, { label: 1 }]) {
      const rows = [
        { ...pair, ...label },
        { prompt: 'B:', completion: 'z', label: false },
      ] as UnpairedRow[]
      const { train } = await loadUnpaired(rows, options)
      const [batch] = await drain(unpairedLoader(train, still).epoch(0))
      t.deepEqual(marked(batch!), [...(i < 2 ? raw : turn), 'B:«z<eos>»'])
      t.deepEqual([...batch!.desirable], [1, 0, 0])
      t.is(train.report.rows, 3)
      t.deepEqual(train.report.unreadColumns, {})
    }
  }
  const against = { prompt: 'A', chosen: 'x', rejected: 'y', label: false } as UnpairedRow
  await t.throwsAsync(loadUnpaired([against], options), {
    code: 'ERR_DATA',
    message: /:1: label is false beside chosen and rejected/,
  })
})

test('both responses of a pair are on one side of a validation fraction', async (t) => {
  const pairs = Array.from({ length: 20 }, (_, i) => ({ prompt: 'Q', chosen: ` a${i}`, rejected: ` b${i}` }))
  const alone = Array.from({ length: 4 }, (_, i) => ({ prompt: 'Q', completion: ` c${i}`, label: true }))
  const { train, validation } = await loadUnpaired([...pairs, ...alone] as DataSource, {
    ...options,
    validation: { fraction: 0.5 },
    seed: 3,
  })
  const rowsOf = ({ groups }: { groups: readonly { origin: string }[] }) =>
    new Set(groups.map(({ origin }) => origin))
  const [trained, held] = [rowsOf(train), rowsOf(validation!)]
  t.deepEqual([trained.size, held.size], [12, 12])
  t.true([...held].every((origin) => !trained.has(origin)))
  t.is(train.groups.length + validation!.groups.length, 44)
})
