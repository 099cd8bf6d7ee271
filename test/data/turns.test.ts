import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { compare, type TemplateFixture } from '../helpers/template-fixture.js'

const FOLDER = join('test', 'fixtures', 'templates')
const fixtures = JSON.parse(readFileSync(join(FOLDER, 'expected.json'), 'utf8')) as TemplateFixture[]

for (const fixture of fixtures) {
  test(`${fixture.name}: text, prompts and masks of 60 conversations are those of jinja2 in transformers`, (t) => {
    const source = readFileSync(join(FOLDER, `${fixture.name}.jinja`), 'utf8')
    const counts = compare(t, fixture, source)
    t.is(counts.texts, 60 + counts.forms)
    t.is(counts.forms, 27)
    t.log(counts)
  })
}
