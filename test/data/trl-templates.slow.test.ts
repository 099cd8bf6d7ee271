import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import test from 'ava'
import {
  compare,
  conversations,
  moreConversations,
  type TemplateFixture,
} from '../helpers/template-fixture.js'

const python = process.env.POSTTRAIN_PYTHON ?? 'python3'
const script = join('scripts', 'dev', 'fixtures', 'templates.py')

const more = process.env.POSTTRAIN_MORE_CONVERSATIONS === '1'
const rows = more ? [...conversations, ...moreConversations] : conversations

test(`text, prompts and masks of ${rows.length} conversations by every template of the installed TRL are transformers'`, (t) => {
  t.timeout(1_200_000)
  const run = spawnSync(python, [script, '--trl', ...(more ? ['--more'] : [])], {
    encoding: 'utf8',
    maxBuffer: 2 ** 29,
  })
  if (run.status !== 0) {
    t.regex(run.error?.message ?? run.stderr, /ENOENT|No module named/)
    t.log(`left out: ${python} has no TRL (POSTTRAIN_PYTHON names an interpreter that has)`)
    t.pass()
    return
  }
  const fixtures = JSON.parse(run.stdout) as TemplateFixture[]
  const sums = {
    templates: 0,
    texts: 0,
    prompts: 0,
    continued: 0,
    masks: 0,
    leftOut: 0,
    quoted: 0,
    forms: 0,
  }
  for (const fixture of fixtures) {
    const counts = compare(t, fixture, fixture.source!, rows)
    sums.templates++
    for (const [name, count] of Object.entries(counts)) sums[name as keyof typeof counts] += count
  }
  t.log(sums)
})
