import { setImmediate } from 'node:timers/promises'
import test from 'ava'
import { type Ingestion, ingest } from '../../lib/data/ingest.js'
import { bad } from '../../lib/data/rows/fields.js'
import type { RowSource } from '../../lib/data/sources.js'

interface Seen {
  slices: number[]
  kept: string[]
  skipped: string[]
}

/** Keeps every `n`; a row without one cannot be read, one below zero not be encoded. */
async function numbersOf(rows: unknown[], given: Partial<Ingestion<number, { twice: number }>> = {}) {
  const seen: Seen = { slices: [], kept: [], skipped: [] }
  await ingest<number, { twice: number }>(rows as RowSource, {
    onBadRow: 'skip',
    slice: 3,
    read({ fields, at }) {
      const { n } = fields as { n?: number }
      if (n === undefined) throw bad(at, 'n', 'is missing')
      return n
    },
    async encode(items) {
      seen.slices.push(items.length)
      return items.map((n) => (n < 0 ? { error: `${n} is below zero` } : { twice: 2 * n }))
    },
    keep: (n, { twice }, { source, line }) => void seen.kept.push(`${source}:${line} ${n} ${twice}`),
    skip: (message) => void seen.skipped.push(message),
    ...given,
  })
  return seen
}

const rows = [{ n: 1 }, {}, { n: -2 }, { n: 3 }, { n: 4 }, { n: 5 }]

test('rows are encoded in slices and kept in their order, the last ones too; bad ones are counted', async (t) => {
  t.deepEqual(await numbersOf(rows), {
    slices: [3, 2],
    kept: ['rows:1 1 2', 'rows:4 3 6', 'rows:5 4 8', 'rows:6 5 10'],
    skipped: ['rows:2: n is missing', 'rows:3: -2 is below zero'],
  })
  t.deepEqual(await numbersOf([]), { slices: [], kept: [], skipped: [] })
})

test('a bad row is an error where it is not skipped, whether it cannot be read or not be encoded', async (t) => {
  const strict = { onBadRow: 'error' } as const
  await t.throwsAsync(numbersOf(rows, strict), { code: 'ERR_DATA', message: 'rows:2: n is missing' })
  await t.throwsAsync(numbersOf([{ n: -1 }], strict), {
    code: 'ERR_DATA',
    message: 'rows:1: -1 is below zero',
  })
})

test('what is no fault of a row is thrown, although bad rows are skipped', async (t) => {
  const broken = () => {
    throw new TypeError('broken')
  }
  await t.throwsAsync(numbersOf(rows, { read: broken }), { instanceOf: TypeError })
  await t.throwsAsync(numbersOf(rows, { encode: broken }), { instanceOf: TypeError })
  await t.throwsAsync(numbersOf(rows, { keep: broken }), { instanceOf: TypeError })
})

test('an aborted signal ends the reading before the next row', async (t) => {
  const abort = new AbortController()
  const kept: number[] = []
  const running = numbersOf(rows, {
    slice: 1,
    signal: abort.signal,
    keep(n) {
      kept.push(n)
      if (n === 3) abort.abort(new Error('enough'))
    },
  })
  await t.throwsAsync(running, { name: 'AbortError' })
  t.deepEqual(kept, [1, 3])
})

test('the event loop gets its turns while rows are read', async (t) => {
  let turns = 0
  let done = false
  const reading = numbersOf(
    Array.from({ length: 8 }, () => ({ n: 1 })),
    {
      read() {
        for (const until = performance.now() + 12; performance.now() < until; );
        return 1
      },
    },
  ).then(() => {
    done = true
  })
  for (; !done; turns++) await setImmediate()
  await reading
  t.true(turns >= 4, `${turns} turns`)
})
