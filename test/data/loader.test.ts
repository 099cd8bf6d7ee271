import { readdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import test from 'ava'
import { defaultDatasetOptions } from '../../lib/data/dataset.js'
import { TokenStore } from '../../lib/data/encode/token-store.js'
import {
  DataLoader,
  isPadded,
  type Loader,
  type LoaderBatch,
  loadDataset,
  plainTemplate,
  type Row,
  rowLoader,
  Tokenizer,
  toPacked,
} from '../../lib/data/index.js'
import { newFolder } from '../helpers/scratch.js'

const tokenizer = await Tokenizer.load(join('test', 'fixtures', 'masks'))
const defaults = defaultDatasetOptions(tokenizer)

const rows = (count: number, from = 0) =>
  Array.from({ length: count }, (_, i) => ({
    instruction: `Row ${from + i}?`,
    output: 'yes '.repeat(1 + (i % 7)),
  }))

async function drain(
  loader: Pick<Loader<LoaderBatch>, 'epoch'>,
  epoch: number,
  from = 0,
): Promise<LoaderBatch[]> {
  const batches: LoaderBatch[] = []
  for await (const batch of loader.epoch(epoch, { from })) batches.push(batch)
  return batches
}

const namesOf = (batches: LoaderBatch[]) => batches.flatMap(({ rowNames }) => rowNames)

test('an epoch has every row once, another order each time, the same from the same seed', async (t) => {
  const make = (seed: number) => new DataLoader(rows(25), { tokenizer, batchSize: 4, seed })
  const [a, b, other] = [make(0), make(0), make(1)]
  const first = await drain(a, 0)
  t.is(first.length, a.batchesPerEpoch)
  t.is(first.length, 7)
  t.is(new Set(namesOf(first)).size, 25)
  t.deepEqual(await drain(b, 0), first)
  t.notDeepEqual(namesOf(await drain(a, 1)), namesOf(first))
  t.notDeepEqual(namesOf(await drain(other, 0)), namesOf(first))
  const still = new DataLoader(rows(3), { tokenizer, shuffle: false })
  t.deepEqual(namesOf(await drain(still, 5)), ['rows:1', 'rows:2', 'rows:3'])
})

test('an epoch taken up in the middle goes on exactly', async (t) => {
  const loader = new DataLoader(rows(25), { tokenizer, batchSize: 4, seed: 3 })
  const whole = await drain(loader, 2)
  t.deepEqual(await drain(loader, 2, 4), whole.slice(4))
})

test('packed and padded batches are the same rows', async (t) => {
  const options = { tokenizer, batchSize: 5, seed: 7 }
  const packed = await drain(new DataLoader(rows(12), options), 0)
  const padded = await drain(new DataLoader(rows(12), { ...options, form: 'padded' }), 0)
  for (const [i, batch] of padded.entries()) {
    t.true(isPadded(batch))
    const { inputIds, offsets, labels } = toPacked(batch)
    const expected = toPacked(packed[i]!)
    t.deepEqual(
      { inputIds, offsets, labels },
      { inputIds: expected.inputIds, offsets: expected.offsets, labels: expected.labels },
    )
    t.is(batch.count, packed[i]!.count)
  }
})

test('the count of a batch is the weight of the labels that something predicts', async (t) => {
  const [batch] = await drain(new DataLoader([{ text: 'The sky is blue.', weight: 2 }], { tokenizer }), 0)
  const packed = toPacked(batch!)
  t.is(packed.labels![0], -100)
  t.is(batch!.count, 2 * (packed.inputIds.length - 1))
  t.true(packed.weights!.every((weight) => weight === 2))
})

test('batches by tokens hold no more than asked for', async (t) => {
  const loader = new DataLoader(rows(30), { tokenizer, batchTokens: 90 })
  const batches = await drain(loader, 0)
  for (const { tokens, rowNames } of batches) t.true(tokens <= 90 || rowNames.length === 1)
  t.is(namesOf(batches).length, 30)
})

test('padding at the left or right is left out, a hole is an error', (t) => {
  const ids = Int32Array.of(1, 2, 0, 0, 3, 4)
  const labels = Int32Array.of(-100, 2, -100, -100, -100, 4)
  const batch = { inputIds: ids, labels, rows: 2, columns: 3, attentionMask: Int32Array.of(1, 1, 0, 0, 1, 1) }
  const packed = toPacked(batch)
  t.deepEqual([...packed.inputIds], [1, 2, 3, 4])
  t.deepEqual([...packed.offsets], [0, 2, 4])
  t.deepEqual([...packed.labels!], [-100, 2, -100, 4])
  const hole = { ...batch, labels: labels.map(() => -100), attentionMask: Int32Array.of(1, 0, 1, 0, 1, 1) }
  t.throws(() => toPacked(hole), { code: 'ERR_INVALID_ARGUMENT', message: /hole in row 0/ })
  t.throws(() => toPacked({ ...batch, attentionMask: Int32Array.of(1) }), { code: 'ERR_INVALID_ARGUMENT' })
  t.throws(() => toPacked({ ...batch, attentionMask: Int32Array.of(1, 0, 0, 0, 1, 1) }), {
    message: /label on padding/,
  })
})

test('a weight that makes an epoch of more rows than fit in memory is refused', async (t) => {
  for (const weight of [1e308, 1e8]) {
    const loading = loadDataset([{ data: rows(20), weight }], defaults)
    await t.throwsAsync(loading, {
      code: 'ERR_INVALID_ARGUMENT',
      message: /^an epoch has at most 268435456 rows, .* of rows makes: lower/,
    })
  }
})

test('a mix gives each source its share of every epoch', async (t) => {
  const texts: Row[] = Array.from({ length: 10 }, (_, i) => ({ text: `Text ${i}` }))
  const { train } = await loadDataset(
    [
      { data: rows(20), weight: 1 },
      { data: texts, weight: 0.3 },
    ],
    defaults,
  )
  const loader = rowLoader(train, { padId: 0, batchSize: 4 })
  const seen: string[] = []
  for (let epoch = 0; epoch < 10; epoch++) {
    const batches = await drain(loader, epoch)
    let text = 0
    for (const { inputIds, offsets } of batches.map(toPacked)) {
      for (let d = 0; d + 1 < offsets.length; d++) {
        const words = tokenizer.decode(inputIds.subarray(offsets[d]!, offsets[d + 1]!))
        if (!words.startsWith('Text')) continue
        text++
        seen.push(words)
      }
    }
    t.is(namesOf(batches).length, 23)
    t.is(text, 3)
  }
  // Three passes over the ten texts in ten epochs, each text once in a pass.
  for (const row of texts) t.is(seen.filter((words) => words === row.text).length, 3)
})

test('a validation fraction is the same from the same seed and shares no row', async (t) => {
  const options = { ...defaults, validation: { fraction: 0.2 } }
  const { train, validation } = await loadDataset(rows(40), options)
  t.is(train.parts[0]!.rows.length, 32)
  t.is(validation!.parts[0]!.rows.length, 8)
  const again = await loadDataset(rows(40), options)
  t.is(again.train.hash, train.hash)
  t.not((await loadDataset(rows(40), { ...options, seed: 1 })).train.hash, train.hash)
  const all = new Set([...train.parts[0]!.rows, ...validation!.parts[0]!.rows])
  t.is(all.size, 40)
})

test('the report counts what looks wrong', async (t) => {
  const data: Row[] = [
    ...rows(3),
    rows(1)[0]!,
    { instruction: 'row 0', output: 'YES!' },
    { instruction: 'Empty?', output: '' },
    { messages: [{ role: 'user', content: 'nobody answers' }] },
    { instruction: 'long', output: 'word '.repeat(100) },
    { foo: 1 } as never,
  ]
  const { train } = await loadDataset(data, {
    ...defaults,
    maxLength: 40,
    onBadRow: 'skip',
    validation: rows(2),
  })
  const { report } = train
  t.is(report.read, 9)
  t.is(report.rows, 7)
  t.deepEqual(report.dropped, { badRow: 1, tooLong: 0, noLabels: 1, empty: 0 })
  t.deepEqual(report.duplicates, { exact: 1, near: 1 })
  t.is(report.truncated, 1)
  t.is(report.withoutStop, 1)
  t.is(report.emptyOutputs, 1)
  t.is(report.sharedWithValidation, 3)
  t.is(report.length.max, 40)
  t.regex(report.firstBadRow!, /^rows:9: /)
  await t.throwsAsync(loadDataset(data, defaults), {
    code: 'ERR_DATA',
    message: /^rows:9: unknown kind of row, with the fields foo/,
  })
})

test('data in which nothing, or no end, is trained are refused', async (t) => {
  const load = (data: Row[], options = {}) => loadDataset(data, { ...defaults, ...options })
  await t.throwsAsync(load([]), { code: 'ERR_DATA', message: /has no rows/ })
  await t.throwsAsync(load([{ messages: [{ role: 'user', content: 'a' }] }]), {
    code: 'ERR_DATA',
    message: /1 without a label/,
  })
  const long = [{ instruction: 'a', output: 'b '.repeat(50) }]
  await t.throwsAsync(load(long, { maxLength: 20 }), { code: 'ERR_DATA', message: /expected <\|im_end\|>/ })
  await t.throwsAsync(load(long, { maxLength: 20, overflow: 'error' }), {
    code: 'ERR_DATA',
    message: /rows:1: .* longer than maxLength 20/,
  })
  await t.throwsAsync(load(long, { maxLength: 20, overflow: 'drop' }), {
    code: 'ERR_DATA',
    message: /1 too long/,
  })
})

test('rows above the memory allowed go to a file and come back', async (t) => {
  const whole = new TokenStore()
  const directory = newFolder(t)
  const small = new TokenStore({ memoryBytes: 2 ** 20, directory })
  t.teardown(() => Promise.all([whole.close(), small.close()]))
  for (let i = 0; i < 1000; i++) {
    const inputIds = Int32Array.from({ length: 1 + ((i * 7919) % 2000) }, (_, k) => i + k)
    const row = { inputIds, labels: inputIds.map((id) => (id % 3 === 0 ? -100 : id)), weight: 1 + (i % 2) }
    await whole.append(row)
    await small.append(row)
  }
  t.true(small.spilled)
  t.false(whole.spilled)
  // The file has no name any more, so that nothing stays of a process that is killed.
  t.deepEqual(readdirSync(directory), [])
  t.is(small.hash, whole.hash)
  for (let i = 0; i < 1000; i++) t.deepEqual(await small.read(i), await whole.read(i))
})

test.serial('encoding in the worker gives the same rows, and leaves the event loop free', async (t) => {
  const folder = newFolder(t)
  const many = Array.from({ length: 3000 }, (_, i) => ({
    instruction: `What is ${i}?`,
    output: 'The sky is blue. 天空。'.repeat(1 + (i % 9)),
  }))
  const path = join(folder, 'rows.jsonl')
  await writeFile(path, many.map((row) => JSON.stringify(row)).join('\n'))
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()
  const { train } = await loadDataset(path, defaults)
  delay.disable()
  t.is(train.store.length, 3000)
  t.is(train.originOf(17), `${path}:18`)
  t.log(`longest event loop delay ${(delay.max / 1e6).toFixed(0)} ms`)
  const few = (await loadDataset(many.slice(0, 20), defaults)).train
  for (let i = 0; i < 20; i++) t.deepEqual(await train.store.read(i), await few.store.read(i))
  await train.store.close()
  await t.throwsAsync(
    train.store.read(0).then(() => loadDataset(path, { ...defaults, signal: AbortSignal.abort() })),
    { name: 'AbortError' },
  )
})

test('the textbook loop takes rows, a tokenizer and the plain template', async (t) => {
  const loader = new DataLoader(rows(4), {
    tokenizer,
    template: plainTemplate,
    maxLength: 128,
    batchSize: 2,
    shuffle: true,
    seed: 0,
  })
  let batches = 0
  for await (const batch of loader.epoch(0)) {
    batches++
    t.true(batch.count > 0)
  }
  t.is(batches, loader.batchesPerEpoch)
})
