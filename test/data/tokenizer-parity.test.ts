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

interface Part {
  normalizer: object | null
  pre_tokenizer: object | null
  words: string[][]
}

const END = '</w>'

/** tokenizer.json whose tokens are the characters of these words, those at the end of a word marked, and `<unk>`. */
function characterJson({ normalizer, pre_tokenizer, words }: Part): {
  json: string
  vocab: Map<string, number>
} {
  const characters = [...new Set(words.flat().flatMap((word) => [...word]))]
  const tokens = ['<unk>', ...characters, ...characters.map((character) => character + END)]
  const vocab = new Map(tokens.map((token, id) => [token, id]))
  const model = {
    type: 'BPE',
    unk_token: '<unk>',
    end_of_word_suffix: END,
    vocab: Object.fromEntries(vocab),
    merges: [],
  }
  return { json: JSON.stringify({ added_tokens: [], normalizer, pre_tokenizer, model }), vocab }
}

const held = readJson<{ texts: string[]; parts: Record<string, Part> }>(fixture('tokenizers', 'parts.json'))
for (const [name, part] of Object.entries(held.parts)) {
  test(`${name} makes the words of Hugging Face's tokenizers of ${held.texts.length} texts`, (t) => {
    const { json, vocab } = characterJson(part)
    const tokenizer = Tokenizer.fromFiles({ tokenizerJson: json, tokenizerConfig: '{}' })
    const spelled = new Map([...vocab].map(([token, id]) => [id, token]))
    for (const [i, text] of held.texts.entries()) {
      const tokens = [...tokenizer.encode(text)].map((id) => spelled.get(id)).join('')
      t.deepEqual(tokens.split(END).slice(0, -1), part.words[i], JSON.stringify(text))
    }
  })
}
