import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { inspectData } from '../../lib/cli/inspect-rows.js'
import { loadDataset, readRows } from '../../lib/data/index.js'
import { options } from '../helpers/response-rows.js'
import { newFolder } from '../helpers/scratch.js'

async function file(t: ExecutionContext, content: string): Promise<string> {
  const path = join(newFolder(t), 'docs.txt')
  await writeFile(path, content)
  return path
}

async function read(path: string, documents?: 'paragraph' | 'line') {
  const found: unknown[][] = []
  for await (const { row, origin, note } of readRows(path, { documents }))
    found.push([(row as { text: string }).text, origin.line, ...(note === undefined ? [] : [note])])
  return found
}

test('documents of a text file are paragraphs, or a line each', async (t) => {
  const path = await file(t, '\uFEFFa\r\nb\n\n \n  c\n\nd')
  t.deepEqual(await read(path), [
    ['a\nb', 1],
    ['  c', 5],
    ['d', 7],
  ])
  t.deepEqual(await read(path, 'line'), [
    ['a', 1],
    ['b', 2],
    ['  c', 5],
    ['d', 7],
  ])
})

test('many lines without a blank one are one document with a note, unless each line is asked for', async (t) => {
  const path = await file(t, 'a\nb\nc\n')
  t.deepEqual(await read(path), [
    [
      'a\nb\nc',
      1,
      `${path} is one document of 3 lines: where each line is a document, set documents to 'line'`,
    ],
  ])
  t.deepEqual(
    (await read(path, 'line')).map(([text]) => text),
    ['a', 'b', 'c'],
  )
  t.deepEqual(await read(await file(t, 'a\nb\n')), [['a\nb', 1]])
  t.is((await read(await file(t, '\na\nb\nc\n\n\n')))[0]?.length, 3)
  t.deepEqual(await read(await file(t, 'a\nb\n\nc\nd\n')), [
    ['a\nb', 1],
    ['c\nd', 4],
  ])
})

const reading = {
  ...options,
  trainOn: 'all',
  overflow: 'error',
  needsStop: false,
  strings: 'raw',
  rendered: false,
} as const

test('the data report has the note', async (t) => {
  const path = await file(t, 'a\nb\nc\n')
  const { train } = await loadDataset(path, reading)
  t.is(train.report.rows, 1)
  t.regex(train.report.notes[0]!, /is one document of 3 lines/)
  await train.store.close()
  const { train: lines } = await loadDataset(path, { ...reading, documents: 'line' })
  t.is(lines.report.rows, 3)
  t.deepEqual(lines.report.notes, [])
  await lines.store.close()
})

test('documents has an effect on text files only', async (t) => {
  for (const source of ['rows.jsonl', [{ text: 'a' }], [{ data: 'rows.json', weight: 1 }]])
    await t.throwsAsync(loadDataset(source as string, { ...reading, documents: 'line' }), {
      code: 'ERR_INVALID_ARGUMENT',
      message: /documents has an effect on \.txt files only/,
    })
  const path = await file(t, 'a\nb')
  const validated = { ...reading, documents: 'line', validation: path } as const
  const { train, validation } = await loadDataset([{ text: 'a' }], validated)
  t.is(validation?.report.rows, 2)
  await train.store.close()
  await validation?.store.close()
})

test('inspect takes documents', async (t) => {
  const path = await file(t, 'a\nb\nc\n')
  const given = { model: 'test/fixtures/models/llama', rows: 5, maxLength: 64, documents: 'line' } as const
  const { report } = await inspectData(path, {
    ...given,
    trainOn: 'assistant',
    overflow: 'truncate',
    onBadRow: 'error',
  })
  t.is(report.rows, 3)
})
