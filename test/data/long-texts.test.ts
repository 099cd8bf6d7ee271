import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { encodeLong } from '../../lib/data/encode/boundary.js'
import { encodeText, type Tokenizer, Tokenizer as Tokenizers } from '../../lib/data/index.js'
import { hash32 } from '../../lib/random.js'
import { pieceTokenizer } from '../helpers/piece-tokenizer.js'
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

const models = 'test/fixtures/models'
const names = ['llama', 'gpt2']
test('a long text has the ids that it has as a whole', async (t) => {
  const tokenizers: [string, Tokenizer][] = [
    ['bytes', byteTokenizer()],
    ['pieces', pieceTokenizer()],
  ]
  for (const name of names) tokenizers.push([name, await Tokenizers.load(join(models, name))])
  for (const text of [textOf(80_000, true), textOf(80_000, false)])
    for (const [name, tokenizer] of tokenizers)
      for (const allowSpecial of [false, true])
        t.deepEqual(encodeLong(text, tokenizer, allowSpecial), tokenizer.encode(text, { allowSpecial }), name)
})

test('a long text is not cut within a token of several words', (t) => {
  const json = JSON.parse(readFileSync('test/fixtures/tokenizers/gpt2.json', 'utf8'))
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: false }
  json.added_tokens = [{ id: 99_999, content: 'the fox', ...flags }]
  const tokenizer = Tokenizers.fromFiles({ tokenizerJson: JSON.stringify(json), tokenizerConfig: '{}' })
  const text = 'the fox '.repeat(20_000)
  t.deepEqual(encodeLong(text, tokenizer, false), tokenizer.encode(text))
})

test('the rows of a long text follow one another by one token, and share their memory', (t) => {
  const tokenizer = byteTokenizer()
  const text = textOf(5000, true)
  const options = { maxLength: 64, trainOn: 'all', overflow: 'truncate' } as const
  const rows = encodeText({ kind: 'text', text, weight: 1 }, tokenizer, options)
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
