import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { Tokenizer } from '../../lib/data/index.js'
import { fixture, readJson } from '../helpers/fixtures.js'

const { texts, ids } = readJson<{ texts: string[]; ids: Record<string, number[][]> }>(
  fixture('tokenizers', 'ids.json'),
)

for (const [kind, expected] of Object.entries(ids)) {
  test(`${kind} gives the ids of Hugging Face's tokenizers for ${texts.length} texts`, (t) => {
    const tokenizerJson = readFileSync(join(fixture('tokenizers'), `${kind}.json`), 'utf8')
    const tokenizer = Tokenizer.fromFiles({ tokenizerJson, tokenizerConfig: '{}' })
    for (const [i, text] of texts.entries())
      t.deepEqual([...tokenizer.encode(text, { allowSpecial: true })], expected[i], JSON.stringify(text))
  })
}
