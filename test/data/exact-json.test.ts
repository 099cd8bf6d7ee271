import { readFileSync } from 'node:fs'
import test from 'ava'
import { MAX_DEPTH, parseJson, plainOf } from '../../lib/data/rows/exact-json.js'
import type { JsonData } from '../../lib/data/rows/json-data.js'

const fixture = (name: string) =>
  JSON.parse(readFileSync(`test/fixtures/rows/${name}.json`, 'utf8')) as unknown

/** Python's repr of a float. */
function float(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return 'inf'
  if (Object.is(value, -0)) return '-0.0'
  const size = Math.abs(value)
  const text = size >= 1e16 ? value.toExponential() : String(value)
  return Number.isInteger(value) && size < 1e16 ? `${text}.0` : text.replace(/e([+-])(\d)$/, 'e$10$2')
}

function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'"
  return quote + text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n') + quote
}

/** Python's repr of a value that json.loads gives. */
function repr(value: JsonData | undefined): string {
  if (value === null) return 'None'
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  if (typeof value === 'string') return quoted(value)
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : float(value)
  if (value instanceof Number) return float(value.valueOf())
  if (typeof value !== 'object') return String(value)
  if (Array.isArray(value)) return `[${value.map(repr).join(', ')}]`
  const entries = value instanceof Map ? value : Object.entries(value)
  return `{${Array.from(entries, ([key, item]) => `${quoted(key)}: ${repr(item)}`).join(', ')}}`
}

test('a JSON text has the numbers, keys and order of keys that Python reads', (t) => {
  const cases = fixture('json') as [string, string][]
  t.true(cases.length > 300)
  let apart = 0
  for (const [text, expected] of cases) {
    const { value, exact } = parseJson(text)
    t.is(repr(exact), expected, text)
    t.deepEqual(plainOf(exact), value, text)
    t.is(repr(structuredClone(exact)), expected, 'after a structured clone')
    apart += Number(exact !== value)
  }
  t.true(apart > 100, 'cases that JSON.parse loses something of')
})

test('a text of which JSON.parse loses nothing is parsed once', (t) => {
  const { value, exact } = parseJson('{"a": [1, 0.5, "x 3"], "b": {"c3": 123456789012345}}')
  t.is(value, exact)
})

test('nesting and digits have limits', (t) => {
  const nested = (levels: number) => '['.repeat(levels) + ']'.repeat(levels)
  t.notThrows(() => parseJson(nested(MAX_DEPTH)))
  for (const levels of [MAX_DEPTH + 1, 5000, 100_000])
    t.throws(() => parseJson(nested(levels)), { instanceOf: SyntaxError, message: /deeper than 128/ })
  t.throws(() => parseJson(`[${'9'.repeat(1_000_000)}]`), { message: /more than 4300 digits/ })
  t.is(typeof parseJson('9'.repeat(4300)).exact, 'bigint')
})

test('long texts are read to their end', (t) => {
  const size = 2_000_000
  const texts = [
    `{"a": 1.0, "b": "${' '.repeat(size)}"}`,
    `{"a": 1.0, "b": "${'1'.repeat(size)}"}`,
    `{"a": 1.0, "b": "${'\\n'.repeat(size)}"}`,
    `{"a": 1.0,${' '.repeat(size)}"b": 2}`,
    `[${'1.0,'.repeat(size / 10)}1]`,
  ]
  for (const text of texts) t.deepEqual(plainOf(parseJson(text).exact), JSON.parse(text))
})
