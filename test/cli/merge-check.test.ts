import test from 'ava'
import { mergeReport } from '../../lib/cli/merge-check.js'

const outputs = (values: number[]) => ({ values, columns: 2 })
const base = outputs([10, -20, 3, 4])
/** The adapter moves outputs by up to 0.3. */
const adapted = outputs([10.3, -20.1, 3, 4.2])
const lost = { code: 'ERR_INVALID_FILE', message: /the merged model is not that of the adapter/ }

test('a merge that gives what the adapter gives is reported with what the adapter changes', (t) => {
  const line = mergeReport({ merged: outputs([10.3, -20.1001, 3, 4.2]), adapted, base }, 'float32')
  t.regex(line, /changes outputs by up to 0\.3: at most 0\.0001, .* the same at 2 of 2 places/)
})

test('a merge that lost the adapter, or turned it around, is an error', (t) => {
  t.throws(() => mergeReport({ merged: base, adapted, base }, 'float32'), lost)
  t.throws(() => mergeReport({ merged: outputs([9.7, -19.9, 3, 3.8]), adapted, base }, 'float32'), lost)
  t.throws(() => mergeReport({ merged: outputs([10.3, 20, 3, 4.2]), adapted, base }, 'bfloat16'), lost)
})

test('outputs that are no numbers are an error, rounding to half precision is none', (t) => {
  t.throws(
    () => mergeReport({ merged: outputs([Number.NaN, -20.1, 3, 4.2]), adapted, base }, 'float32'),
    lost,
  )
  const rounded = outputs([10.5, -20.5, 3.01, 4.3])
  t.notThrows(() => mergeReport({ merged: rounded, adapted, base }, 'bfloat16'))
  t.throws(() => mergeReport({ merged: rounded, adapted, base }, 'float32'), lost)
})
