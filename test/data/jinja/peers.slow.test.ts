import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { parseJson } from '../../../lib/data/rows/exact-json.js'
import type { JsonData } from '../../../lib/data/rows/json-data.js'
import { JinjaTemplate } from '../../../lib/data/text/jinja/index.js'
import { PosttrainError } from '../../../lib/errors.js'
import { runChild } from '../../helpers/child.js'

const script = fileURLToPath(new URL('../../../../scripts/dev/checks/jinja-check.py', import.meta.url))
const python = process.env.POSTTRAIN_PYTHON ?? 'python3'
const fixtures = new URL('../../../../test/fixtures/jinja/data.json', import.meta.url)
const shared = parseJson(readFileSync(fixtures, 'utf8')).exact as Record<string, JsonData>
const COUNT = Number(process.env.POSTTRAIN_JINJA_FUZZ ?? 500)

const has = (modules: string) => spawnSync(python, ['-c', `import ${modules}`]).status === 0

/** Templates with what transformers makes of them that are rendered otherwise here; and how many there are. */
async function compared(...args: string[]): Promise<{ wrong: unknown[]; count: number }> {
  const { code, stdout, stderr } = await runChild(python, [script, ...args])
  if (code !== 0) throw new Error(`jinja-check.py failed: ${stderr.slice(-2000)}`)
  const lines = stdout.trim().split('\n')
  const wrong = lines.flatMap((line) => {
    const [template, variables, text, spans] = parseJson(line).exact as [
      string,
      Record<string, JsonData> | null,
      string | null,
      [number, number][],
    ]
    const ours = rendered(template, variables ?? shared)
    const equal = ours?.text === (text ?? undefined)
    const sameSpans =
      variables === null || text === null || JSON.stringify(ours?.spans) === JSON.stringify(spans)
    return equal && sameSpans ? [] : [{ template, variables, text, spans, ours }]
  })
  return { wrong: wrong.slice(0, 3), count: lines.length }
}

/** Text and stretches of generation, in code points as Python counts; null where the template is refused. */
function rendered(template: string, variables: Record<string, JsonData>) {
  try {
    const { text, generation } = JinjaTemplate.parse(template, 'peer').render(variables)
    const points = (units: number) => [...text.slice(0, units)].length
    return { text, spans: generation.map(({ from, to }) => [points(from), points(to)]) }
  } catch (error) {
    if (error instanceof PosttrainError) return null
    throw error
  }
}

test("TRL's chat templates render as in transformers, with the same stretches of generation", async (t) => {
  if (!has('transformers, trl')) {
    t.log('skipped: python3 (or POSTTRAIN_PYTHON) has no transformers and trl')
    return t.pass()
  }
  const { wrong, count } = await compared('trl')
  t.deepEqual(wrong, [])
  t.log(`${count} renderings`)
})

test('random templates render as in transformers', async (t) => {
  if (!has('transformers')) {
    t.log('skipped: python3 (or POSTTRAIN_PYTHON) has no transformers')
    return t.pass()
  }
  const seed = process.env.POSTTRAIN_JINJA_SEED ?? '1'
  const { wrong, count } = await compared('fuzz', String(COUNT), seed)
  t.deepEqual(wrong, [])
  t.log(`${count} templates, seed ${seed}`)
})
