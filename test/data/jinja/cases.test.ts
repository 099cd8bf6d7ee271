import { readFileSync } from 'node:fs'
import test from 'ava'
import { parseJson } from '../../../lib/data/rows/exact-json.js'
import type { JsonData } from '../../../lib/data/rows/json-data.js'
import { JinjaTemplate } from '../../../lib/data/text/jinja/index.js'
import { PosttrainError } from '../../../lib/errors.js'

/** Written by scripts/dev/fixtures/jinja.py. */
const read = (name: string) =>
  readFileSync(new URL(`../../../../test/fixtures/jinja/${name}`, import.meta.url), 'utf8')
const variables = parseJson(read('data.json')).exact as Record<string, JsonData>
const cases = JSON.parse(read('cases.json')) as [template: string, text: string | null][]

/** The rendered text; null where the template is refused with a typed error. */
function rendered(template: string): string | null {
  try {
    const { text, runs } = JinjaTemplate.parse(template, 'case').render(variables)
    let at = 0
    for (const { from, to } of runs) {
      if (from !== at || to <= from) throw new Error(`runs with a gap at ${at}`)
      at = to
    }
    if (at !== text.length) throw new Error('runs end early')
    return text
  } catch (error) {
    if (error instanceof PosttrainError) return null
    throw error
  }
}

test('small templates render as in Jinja2, and are refused where it raises', (t) => {
  const wrong = cases.filter(([template, text]) => rendered(template) !== text)
  t.deepEqual(
    wrong.map(([template, text]) => ({ template, text, ours: rendered(template) })),
    [],
  )
  t.true(cases.length > 5000)
})
