import { appendFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { defaultDatasetOptions, loadDataset } from '../../lib/data/dataset.js'
import { type AnyRow, readRows } from '../../lib/data/sources.js'
import { sft } from '../../lib/train/sft.js'
import { newFolder } from '../helpers/scratch.js'
import { instructionRows, tinyModel } from '../helpers/tiny-training.js'
import { byteTokenizer } from '../helpers/tokenizers.js'

const items = Array.from({ length: 5000 }, (_, i) => JSON.stringify({ text: `number ${i}` }))
const contents: Record<string, string> = {
  'rows.jsonl': `${items.join('\n')}\n`,
  'rows.json': `[${items.join(',')}]`,
  'rows.txt': items.join('\n\n'),
}

const changes: Record<string, (path: string) => void> = {
  grown: (path) => appendFileSync(path, `\n${items[0]}\n`),
  'cut between two rows': (path) =>
    truncateSync(path, Math.floor(contents['rows.jsonl']!.indexOf('\n', 70_000)) + 1),
  emptied: (path) => truncateSync(path, 0),
  replaced: (path) => {
    writeFileSync(`${path}.new`, items[0]!)
    renameSync(`${path}.new`, path)
  },
  removed: (path) => rmSync(path),
}

for (const [name, content] of Object.entries(contents)) {
  for (const [what, change] of Object.entries(changes)) {
    test(`${name} that is ${what} while it is read is an error that names it`, async (t) => {
      const path = join(newFolder(t), name)
      writeFileSync(path, content)
      let rows = 0
      const reading = async () => {
        for await (const { failure } of readRows(path)) {
          // What a cut leaves of a row may be found first.
          if (failure !== undefined) continue
          if (++rows === 1) change(path)
        }
      }
      const error = await t.throwsAsync(reading(), { code: 'ERR_DATA' })
      t.true(error!.message.startsWith(path))
      t.true(rows > 0)
    })
  }
}

const options = {
  ...defaultDatasetOptions(byteTokenizer()),
  maxLength: 64,
  trainOn: 'all',
  overflow: 'error',
  needsStop: false,
} as const

test('a data set is never made of a file that changed meanwhile, though bad rows are skipped', async (t) => {
  const path = join(newFolder(t), 'rows.jsonl')
  writeFileSync(path, contents['rows.jsonl']!)
  const signal = new AbortController().signal
  let looked = 0
  // The signal is looked at before each row.
  Object.defineProperty(signal, 'aborted', {
    get: () => {
      if (++looked === 100) appendFileSync(path, `${items[0]}\n`)
      return false
    },
  })
  await t.throwsAsync(loadDataset(path, { ...options, onBadRow: 'skip', signal }), {
    code: 'ERR_DATA',
    message: `${path} was changed, replaced or removed while it was read: start again when nothing writes it, or pass a copy`,
  })
})

/** Rows, and then none any more; `seen.returned` once the reader has let go of them. */
function endless(first: AnyRow[], seen: { returned: boolean }): AsyncIterable<AnyRow> {
  const rows = [...first]
  return {
    [Symbol.asyncIterator]: () => ({
      next: () => {
        const value = rows.shift()
        return value === undefined ? new Promise(() => undefined) : Promise.resolve({ value, done: false })
      },
      return: async () => {
        seen.returned = true
        return { value: undefined, done: true }
      },
    }),
  }
}

async function aborted(t: ExecutionContext, data: AsyncIterable<AnyRow>): Promise<void> {
  await using model = await tinyModel()
  const abort = new AbortController()
  setTimeout(() => abort.abort('enough'), 20)
  const error = await t.throwsAsync(sft({ model, data, maxSteps: 1, signal: abort.signal }).finish(), {
    name: 'AbortError',
  })
  t.is(error?.cause, 'enough')
}

test('an abort ends the wait for a row that never comes, and lets go of the rows', async (t) => {
  const seen = { returned: false }
  await aborted(t, endless(instructionRows(2), seen))
  t.true(seen.returned)
})
