import { createHash } from 'node:crypto'
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

interface Pieces {
  pre_tokenizer: object
  model: { vocab: [string, number][] }
  /** Texts and their ids; null where a part of a text has none. */
  short: [text: string, ids: number[] | null][]
  long: [unit: string, times: number, count: number | null, sha1: string | null][]
}

const pieces = readJson<Record<string, Pieces>>(fixture('tokenizers', 'pieces.json'))
for (const [name, { pre_tokenizer, model, short, long }] of Object.entries(pieces)) {
  test(`a Unigram model (${name}) gives the ids of Hugging Face's tokenizers, of long texts too`, (t) => {
    const tokenizerJson = JSON.stringify({ added_tokens: [], pre_tokenizer, model })
    const tokenizer = Tokenizer.fromFiles({ tokenizerJson, tokenizerConfig: '{}' })
    const check = (text: string, expected: boolean, compare: (ids: Int32Array) => void) => {
      if (expected) compare(tokenizer.encode(text))
      else
        t.throws(
          () => tokenizer.encode(text),
          { code: 'ERR_INVALID_FILE', message: /unk_id/ },
          text.slice(0, 9),
        )
    }
    for (const [text, ids] of short) check(text, ids !== null, (given) => t.deepEqual([...given], ids, text))
    for (const [unit, times, count, sha1] of long) {
      check(unit.repeat(times), sha1 !== null, (given) => {
        t.is(given.length, count!, `${unit} x ${times}`)
        t.is(createHash('sha1').update(given.join(',')).digest('hex'), sha1!, `${unit} x ${times}`)
      })
    }
  })
}

test('a special token in the vocabulary of a Unigram model is no token of a text', (t) => {
  const [name, id] = ['</s>', 1]
  const special = { id, content: name, single_word: false, lstrip: false, rstrip: false, special: true }
  const vocab = ['<unk>', name, 'a', '<', '/', 's', '>'].map((token, i) => [token, i < 2 ? 0 : -3])
  const model = { type: 'Unigram', unk_id: 0, vocab }
  const tokenizerJson = JSON.stringify({ added_tokens: [special], model })
  const tokenizer = Tokenizer.fromFiles({ tokenizerJson, tokenizerConfig: '{}' })
  t.deepEqual([...tokenizer.encode('a</s>')], [2, 3, 4, 5, 6])
  t.deepEqual([...tokenizer.encode('a</s>', { allowSpecial: true })], [2, 1])
})
