import { readFileSync } from 'node:fs'
import test from 'ava'
import type { TextTokens } from '../../lib/data/encode/mask.js'
import { encodeText, rowsOfText } from '../../lib/data/index.js'
import { encoderOf } from '../../lib/data/text/encoder.js'
import { IdList } from '../../lib/data/text/id-list.js'
import { mergedTokens } from '../../lib/data/text/long-words.js'
import { Merger } from '../../lib/data/text/merger.js'
import { wordsBy } from '../../lib/data/text/pre-tokenizers.js'
import { matchesOf } from '../../lib/data/text/split.js'
import { checked } from '../../lib/data/text/tokenizer-files.js'
import { WordEncoder } from '../../lib/data/text/word-encoder.js'
import { hash32 } from '../../lib/random.js'
import { byteTokenizer } from '../helpers/tokenizers.js'

const WORDS = [
  ...['the', 'Quick', "fox's", '12', '3.5%', 'naïve', 'straße', 'a', 'I', '…', '(so)', 'x=1;', '\n\n', '\n'],
  ...['  ', '\t', '天空是蓝的。', '你好，世界', 'かな', '😀', '<s>', 'e\u0301', '\r\n', '-', 'don’t'],
]

/** A text of many words in a fixed order, with spaces between them or not. */
function textOf(length: number, spaces: boolean): string {
  let text = ''
  for (let n = 0; text.length < length; n++)
    text += WORDS[hash32(7, n, 0) % WORDS.length]! + (spaces || n % 3 === 0 ? ' ' : '')
  return text
}

type Json = Record<string, unknown>

/** Encodes with words of more than `longWord` characters merged in chunks of so many. */
function encoding(json: Json, longWord: number): (text: string) => Int32Array {
  const encoder = new WordEncoder(encoderOf(checked({ ...json, added_tokens: [] }), {}), [], longWord)
  return (text) => {
    const ids = new IdList()
    encoder.encode(text, ids)
    return ids.finish()
  }
}

const kinds = ['gpt2', 'gpt4o', 'gemma', 'llama3', 'metaspace', 'sentencepiece', 'unigram', 'qwen']
for (const kind of kinds) {
  test(`words of any length have the ids that ${kind} gives them as a whole`, (t) => {
    const json = JSON.parse(readFileSync(`test/fixtures/tokenizers/${kind}.json`, 'utf8')) as Json
    const [whole, inChunks] = [encoding(json, Number.POSITIVE_INFINITY), encoding(json, 24)]
    const alphabets = [
      'ab',
      'the quick',
      'aeiou nstr',
      '天空是蓝你好',
      '0123456789',
      '   \n',
      '😀é\u0301a',
      '=- ',
    ]
    for (const [k, alphabet] of alphabets.entries()) {
      const characters = [...alphabet]
      for (let n = 0; n < 12; n++) {
        const length = 30 + (hash32(3, n, k) % 600)
        const draw = (i: number) => hash32(3, k, n * 1_000 + i) % characters.length
        const text = Array.from({ length }, (_, i) => characters[n === 0 ? 0 : draw(i)]).join('')
        t.deepEqual(inChunks(text), whole(text), JSON.stringify(text))
      }
    }
    const words = textOf(3_000, true)
    t.deepEqual(inChunks(words), whole(words))
  })
}

for (const kind of ['gpt2', 'gpt4o', 'gemma', 'llama3', 'sentencepiece', 'qwen']) {
  test(`merges of ${kind} are those of the library`, (t) => {
    const json = JSON.parse(readFileSync(`test/fixtures/tokenizers/${kind}.json`, 'utf8')) as Json
    const { model } = encoderOf(checked({ ...json, added_tokens: [] }), {})
    const merger = new Merger(model.merges!)
    const { bpe } = model as unknown as { bpe(word: string): string[] }
    t.deepEqual(merger.merge(''), [])
    for (const [k, alphabet] of [
      'ab',
      'the quick',
      'aeiou nstr',
      '\u2581the',
      'ĠĊthe',
      '天空是',
      '😀é\u0301a',
      '=-',
    ].entries()) {
      const characters = [...alphabet]
      for (let n = 0; n < 20; n++) {
        const draw = (i: number) => (n === 0 ? 0 : hash32(5, k, n * 1_000 + i) % characters.length)
        const word = Array.from({ length: 1 + 20 * n }, (_, i) => characters[draw(i)]).join('')
        t.deepEqual(merger.merge(word), bpe.call(model, word), word)
      }
    }
  })
}

test('a word of a million characters takes less than ten seconds, which were minutes', (t) => {
  const json = JSON.parse(readFileSync('test/fixtures/tokenizers/gpt2.json', 'utf8')) as Json
  const encode = encoding(json, 8_192)
  const start = performance.now()
  for (const character of ['a', ' ', '"']) t.true(encode(character.repeat(2 ** 20)).length > 0)
  t.true(performance.now() - start < 10_000)
})

test('a stretch without digits may have millions of characters; where a search cannot hold them it is an error', (t) => {
  const text = '天 '.repeat(6_000_000)
  const digits = wordsBy({ type: 'Digits', individual_digits: true }, null)!
  t.deepEqual(
    [...digits(`${text}12${text}`, true)].map(({ length }) => length),
    [12e6, 1, 1, 12e6],
  )
  const matches = () => [...matchesOf('天'.repeat(12e6), /\p{L}+/gu)]
  t.throws(matches, { code: 'ERR_DATA', message: /in a text of 12000000 characters: break the text up/ })
})

test('a word in which no chunk can end is refused', (t) => {
  // Merges from the left end only, so that every token depends on where the word begins.
  const merge = (word: string) =>
    [word.slice(0, word.length % 7), word.slice(word.length % 7)].filter(Boolean)
  const error = t.throws(() => [...mergedTokens(merge, 'a'.repeat(1_000_000))], { code: 'ERR_DATA' })
  t.regex(error?.message ?? '', /1000000 characters as one word/)
})

test('the rows of a long text follow one another by one token, and share their ids', (t) => {
  const tokenizer = byteTokenizer()
  const text = textOf(5000, true)
  const rows = [...rowsOfText(encodeText({ kind: 'text', text, weight: 1 }, tokenizer) as TextTokens, 64)]
  const ids: number[] = []
  for (const row of rows) {
    if (typeof row === 'string') throw new Error(row)
    if (ids.length > 0) t.is(row.inputIds[0], ids.pop())
    ids.push(...row.inputIds)
    t.deepEqual([...row.labels.subarray(1)], [...row.inputIds.subarray(1)])
    t.is(row.labels[0], -100)
  }
  t.deepEqual(ids, [...tokenizer.prefixIds, ...tokenizer.encode(text), tokenizer.eosId!])
  t.is(new Set(rows.map((row) => (row as { inputIds: Int32Array }).inputIds.buffer)).size, 1)
})
