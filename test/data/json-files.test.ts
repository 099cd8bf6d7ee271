import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { loadDataset, loadPrompts, readRows } from '../../lib/data/index.js'
import { options } from '../helpers/response-rows.js'
import { newFolder } from '../helpers/scratch.js'

/** Rows and failures of a file with this content. */
async function read(t: ExecutionContext, name: string, content: string | Buffer) {
  const path = join(newFolder(t), name)
  await writeFile(path, content)
  const found: { row: unknown; exact: unknown; line: number; failure: string | undefined }[] = []
  for await (const { row, exact, origin, failure } of readRows(path))
    found.push({ row, exact, line: origin.line, failure: failure?.message.slice(path.length) })
  return found
}

const rows = [{ text: 'a 😀 [{"' }, { text: '天空', deep: [{ a: ['}]', '\\'] }] }, { text: 'c' }]
const json = JSON.stringify
const layouts: Record<string, string> = {
  'one list': json(rows),
  'a list with indents': `\n ${json(rows, null, 2)} \n`,
  'a line each': rows.map((row) => json(row)).join('\n'),
  'a line each, CRLF and blank lines': `${rows.map((row) => json(row)).join('\r\n\r\n')}\r\n`,
  'a byte order mark and a list': `\uFEFF${json(rows)}`,
  'a byte order mark and lines': `\uFEFF${rows.map((row) => json(row)).join('\n')}`,
}
for (const [layout, content] of Object.entries(layouts)) {
  for (const name of ['rows.json', 'rows.jsonl', 'rows.ndjson']) {
    test(`${name} may be ${layout}`, async (t) => {
      t.deepEqual(
        (await read(t, name, content)).map(({ row }) => row),
        rows,
      )
    })
  }
}

test('.json may have objects of several lines one after another', async (t) => {
  const content = rows.map((row) => json(row, null, 2)).join('\n')
  const found = await read(t, 'rows.json', content)
  t.deepEqual(
    found.map(({ row, line }) => [row, line]),
    rows.map((row, i) => [row, i + 1]),
  )
  t.deepEqual(
    (await read(t, 'rows.json', json(rows[0], null, 2))).map(({ row }) => row),
    rows.slice(0, 1),
  )
})

test('rows cross the chunks in which a file is read', async (t) => {
  const many = Array.from({ length: 3000 }, (_, i) => ({ text: `${i} ${'é"\\'.repeat(i % 90)}` }))
  for (const content of [json(many), many.map((row) => json(row)).join('\n'), json(many, null, 3)])
    t.deepEqual(
      (await read(t, 'rows.json', content)).map(({ row }) => row),
      many,
    )
})

test('a list of texts is a list of rows of text, and an empty one has no rows', async (t) => {
  t.deepEqual(
    (await read(t, 'rows.json', '["a", "b"]')).map(({ row }) => row),
    [{ text: 'a' }, { text: 'b' }],
  )
  t.deepEqual(await read(t, 'rows.json', ' [ ] '), [])
  t.deepEqual(await read(t, 'rows.json', ''), [])
})

test('a row that is not JSON fails by itself', async (t) => {
  const cases: [string, string | Buffer, number, RegExp][] = [
    ['rows.jsonl', '{"text": "a"}\n{"text": }\n{"text": "c"}', 2, /^:2: the line is not valid JSON/],
    ['rows.json', '{"text": "a"}\n{"text": }\n{"text": "c"}', 2, /^:2: the line is not valid JSON/],
    ['rows.json', '[{"text": "a"}, {"text": }, {"text": "c"}]', 2, /^:2: the row is not valid JSON/],
    ['rows.json', '[{"text": "a"}, , {"text": "c"}]', 2, /^:2: the row is not valid JSON/],
    [
      'rows.json',
      Buffer.concat([
        Buffer.from('[{"text": "a"}, "'),
        Buffer.of(0xc4, 0xe3),
        Buffer.from('", {"text": "c"}]'),
      ]),
      2,
      /^:2: the text is not UTF-8/,
    ],
    [
      'rows.jsonl',
      `{"text": "a"}\n{"x": ${'['.repeat(5000)}${']'.repeat(5000)}}\n{}`,
      2,
      /nested deeper than 128/,
    ],
  ]
  for (const [name, content, bad, message] of cases) {
    const found = await read(t, name, content)
    t.is(found.length, 3)
    for (const { line, failure } of found)
      if (line === bad) t.regex(failure ?? '', message)
      else t.is(failure, undefined)
  }
})

test('files of other kinds say what to do', async (t) => {
  const cases: [string, string | Buffer, RegExp][] = [
    ['rows.jsonl', Buffer.of(0x1f, 0x8b, 8, 0), /is compressed by gzip: decompress it/],
    ['rows.json', Buffer.of(0x50, 0x4b, 3, 4), /is a zip archive/],
    ['rows.jsonl', Buffer.from('PAR1'), /is a Parquet file: convert it to \.jsonl/],
    ['rows.txt', Buffer.from('\uFEFFa', 'utf16le'), /is UTF-16: convert the file to UTF-8/],
    ['rows.jsonl', Buffer.from('{"text": "a"}', 'utf16le'), /is UTF-16: convert/],
    ['rows.jsonl', Buffer.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0), /is compressed by xz: decompress it/],
    ['rows.jsonl', 'version https://git-lfs.github.com/spec/v1\n', /is a pointer of Git LFS: fetch the file/],
    ['rows.md', '', /must end in .*: name plain text \.txt/],
    ['rows.jsonl.gz', '', /must end in \.jsonl, \.json or \.txt: decompress it first/],
    ['rows.parquet', '', /must end in \.jsonl, \.json or \.txt: convert it to \.jsonl/],
  ]
  for (const [name, content, message] of cases)
    await t.throwsAsync(read(t, name, content), { code: 'ERR_DATA', message }, name)
})

test('a line that is nearly JSON is an error with what to write', async (t) => {
  const cases: [string, RegExp][] = [
    ['{"text": "a", "x": NaN}', /\(NaN and Infinity are not JSON, write null\)$/],
    ['{"text": "a", "x": -Infinity}', /\(NaN and Infinity are not JSON, write null\)$/],
    ['{"text": "a",}', /\(no comma stands before the end of an object or a list\)$/],
    ['{"text": "a"},', /\(no comma ends a line\)$/],
    ["{'text': 'a'}", /\(JSON has strings in double quotes; what Python's str\(\) wrote is not JSON\)$/],
    ['// rows', /\(JSON has no comments\)$/],
    ['prompt,completion', /\(a row begins with \{\)$/],
    ['<html>', /\(this is a page of HTML: download the file itself\)$/],
  ]
  for (const [line, message] of cases) {
    const [good, bad] = await read(t, 'rows.jsonl', `{"text": "NaN, 'a', //"}\n${line}\n`)
    t.is(good?.failure, undefined)
    t.regex(bad?.failure ?? '', message)
  }
})

test('objects of several lines each may be named .jsonl', async (t) => {
  const found = await read(t, 'rows.jsonl', rows.map((row) => json(row, null, 2)).join('\n'))
  t.deepEqual(
    found.map(({ row }) => row),
    rows,
  )
})

test('a source that is no file of this machine is an error that says what to do', async (t) => {
  const cases: [string, RegExp][] = [
    [
      'https://example.com/rows.jsonl',
      /rows\.jsonl is not read: download the file, or name one on the Hugging Face Hub/,
    ],
    ['-', /^- is not read: data are read twice, so write the rows to a file$/],
    ['/dev/stdin', /^\/dev\/stdin is not read/],
    [
      join(newFolder(t), '*.jsonl'),
      /does not exist or cannot be read: patterns are not expanded, so name each file$/,
    ],
    [newFolder(t), /is a folder: name the data files in it$/],
  ]
  for (const [source, message] of cases)
    await t.throwsAsync(readRows(source).next(), { code: 'ERR_DATA', message }, source)
})

test('a row with numbers that JSON.parse rounds has them exactly beside its own values', async (t) => {
  for (const content of ['{"id": 1234567890123456789}', '[{"id": 1234567890123456789}]']) {
    const [found] = await read(t, 'rows.json', content)
    t.deepEqual(found?.row, { id: 1234567890123456800 })
    t.deepEqual(found?.exact, { id: 1234567890123456789n })
  }
})

test('reward functions see a row and messages in JavaScript values', async (t) => {
  const path = join(newFolder(t), 'rows.jsonl')
  const call = '{"function": {"name": "f", "arguments": {"id": 1234567890123456789, "ratio": 1.0}}}'
  const messages = `[{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [${call}]}, {"role": "tool", "content": [{"type": "text", "text": "3"}]}]`
  await writeFile(path, `{"prompt": ${messages}, "answer": 7.0}\n`)
  const { items } = await loadPrompts(path, { ...options, overflow: 'error' })
  t.is(items[0]?.row.answer, 7)
  const [, said, told] = items[0]!.messages!
  t.deepEqual(said?.tool_calls, [
    { function: { name: 'f', arguments: { id: 1234567890123456800, ratio: 1 } } },
  ])
  t.deepEqual(told, { role: 'tool', content: '3' })
})

test('rows with exact numbers reach the template of another thread', async (t) => {
  const path = join(newFolder(t), 'rows.jsonl')
  const row = `{"messages": [{"role": "user", "content": "${'a'.repeat(3000)}", "n": [1.0, 12345678901234567890, {"2": 0, "1": 0}]}, {"role": "assistant", "content": "b"}]}`
  await writeFile(path, `${row}\n`)
  const { train } = await loadDataset(path, {
    ...options,
    maxLength: 4096,
    trainOn: 'assistant',
    overflow: 'error',
    needsStop: true,
  })
  t.is(train.report.rows, 1)
  await train.store.close()
})
