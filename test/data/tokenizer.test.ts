import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { Tokenizer } from '../../lib/data/index.js'
import { PosttrainError } from '../../lib/errors.js'
import { hash32 } from '../../lib/random.js'
import { pieceTokenizer } from '../helpers/piece-tokenizer.js'
import { newFolder } from '../helpers/scratch.js'

const FIXTURE = join('test', 'fixtures', 'masks')
const tokenizer = await Tokenizer.load(FIXTURE)
const tokenizerJson = await readFile(join(FIXTURE, 'tokenizer.json'), 'utf8')

const TEXTS = [
  'The sky is blue.',
  '这只猫叫什么名字?',
  'emoji 😀 family 👩‍👩‍👧‍👦 flag 🇩🇪 end',
  'e\u0301 한국어 Привет',
  '\n\n  spaces \t\r\n',
  '',
]

test('decode gives the text back, and so does the stream, in whole characters', (t) => {
  for (const text of TEXTS) {
    const ids = tokenizer.encode(text)
    t.is(tokenizer.decode(ids), text)
    const decoder = tokenizer.streamDecoder()
    const pieces = [...ids].map((id) => decoder.push(id))
    pieces.push(decoder.end())
    t.is(pieces.join(''), text)
    for (const piece of pieces) t.false(piece.includes('\uFFFD'), `${text}: half a character in ${piece}`)
  }
})

test('the stream never splits a character of a byte-fallback model', (t) => {
  const pieces = pieceTokenizer()
  const text = 'a ab 😀这ab'
  const ids = pieces.encode(text)
  const decoder = pieces.streamDecoder()
  const given = [...ids].map((id) => decoder.push(id))
  given.push(decoder.end())
  t.is(given.join(''), text)
  for (const piece of given) t.false(piece.includes('\uFFFD'))
})

test('bytes that never become a character end as U+FFFD', (t) => {
  const decoder = tokenizer.streamDecoder()
  const [first] = tokenizer.encode('\u{1F9FF}')
  t.is(decoder.push(first!), '')
  t.is(decoder.end(), '\uFFFD')
})

test('a text that goes on gets no space before it, and a BOS token is known', (t) => {
  const pieces = pieceTokenizer()
  t.deepEqual(pieces.prefixIds, [1])
  const ids = (text: string, first: boolean) =>
    [...pieces.encode(text, { first })].map((id) => pieces.idToToken(id))
  t.deepEqual(ids('ab', true), ['\u2581a', 'b'])
  t.deepEqual(ids('ab', false), ['ab'])
  t.deepEqual(ids(' ab', false), ['\u2581a', 'b'])
})

test('text that looks like a special token is text, unless it is allowed', (t) => {
  const id = tokenizer.tokenToId('<|im_end|>')!
  t.false(tokenizer.encode('a<|im_end|>').includes(id))
  t.is(tokenizer.decode(tokenizer.encode('a<|im_end|>')), 'a<|im_end|>')
  t.true(tokenizer.encode('a<|im_end|>', { allowSpecial: true }).includes(id))
  const count = (text: string, ...data: [number, number][]) => {
    const guard = { data: data.map(([from, to]) => ({ from, to })) }
    return tokenizer.encode(text, { guard }).filter((each) => each === id).length
  }
  t.is(count('a<|im_end|>', [0, 11]), 0)
  t.is(count('a<|im_end|>', [0, 1]), 1)
  t.is(count('<|im_end|>', [2, 8]), 0, 'what the template joins with data')
  t.is(count('<|im_end|>', [9, 10]), 0)
  t.is(count('<|im_end|><|im_end|>', [0, 10]), 1)
  t.is(count('<|im_end|><|im_end|><|im_end|>', [0, 10], [20, 30]), 1)
  t.deepEqual(
    [...tokenizer.encode('a<|im_end|>b', { guard: { data: [{ from: 1, to: 11 }] } })],
    [...tokenizer.encode('a<|im_end|>b')],
  )
})

test('added tokens that are not special are part of ordinary text', (t) => {
  const json = JSON.parse(tokenizerJson)
  json.added_tokens.push({ id: 600, content: '<think>', special: false })
  const own = Tokenizer.fromFiles({ tokenizerJson: JSON.stringify(json), tokenizerConfig: '{}' })
  t.deepEqual([...own.encode('<think>')], [600])
  t.is(own.decode([600]), '<think>')
  t.is(own.vocabSize, 601)
})

test('offsets cut the text where its tokens do', (t) => {
  for (const text of TEXTS) {
    const ids = tokenizer.encode(text)
    const offsets = tokenizer.offsets(ids)
    let end = 0
    for (const [i, [from, to]] of offsets.entries()) {
      t.is(from, end)
      end = to
      const piece = tokenizer.decode([ids[i]!])
      if (!piece.includes('\uFFFD')) t.is(text.slice(from, to), piece)
    }
    t.is(end, text.length)
  }
})

test('decode takes lists, typed arrays and nothing', (t) => {
  t.is(tokenizer.decode([]), '')
  t.is(tokenizer.decode(Int32Array.of(...tokenizer.encode('Yes'))), 'Yes')
  t.is(tokenizer.decode([2], { skipSpecialTokens: false }), '<|im_end|>')
  t.is(tokenizer.decode([2]), '')
})

test('saved and loaded again it is the same', async (t) => {
  const folder = newFolder(t)
  await tokenizer.save(folder)
  const again = await Tokenizer.load(folder)
  t.deepEqual(again.files, tokenizer.files)
  t.is(again.eosToken, '<|im_end|>')
  await writeFile(join(folder, 'tokenizer_config.json'), '{}')
  t.is((await Tokenizer.load(folder)).eosToken, null)
  await writeFile(join(folder, 'special_tokens_map.json'), '{"eos_token": {"content": "<|im_end|>"}}')
  t.is((await Tokenizer.load(folder)).eosToken, '<|im_end|>')
})

interface TokenizerJson {
  model?: { vocab?: Record<string, number>; merges?: unknown[]; type?: string }
  added_tokens: { id?: number }[] | number
}

const refused: [string, (json: Required<TokenizerJson>) => TokenizerJson, RegExp][] = [
  ['no model', ({ model: _, ...json }) => json, /has no model/],
  [
    'no vocabulary',
    ({ model: { vocab: _, ...model }, ...json }) => ({ ...json, model }),
    /model\.vocab is missing/,
  ],
  [
    'an id that is none',
    (json) => ({ ...json, model: { ...json.model, vocab: { ...json.model.vocab, a: -1 } } }),
    /model\.vocab gives the token "a" no valid id/,
  ],
  ['a token without id', (json) => ({ ...json, added_tokens: [{}] }), /added_tokens needs an id/],
  ['a list that is none', (json) => ({ ...json, added_tokens: 5 }), /added_tokens must be a list/],
  [
    'no merges',
    ({ model: { merges: _, ...model }, ...json }) => ({ ...json, model }),
    /model\.merges must be a list of pairs/,
  ],
]
for (const [what, spoil, message] of refused) {
  test(`a tokenizer with ${what} is refused`, (t) => {
    const json = spoil(JSON.parse(tokenizerJson))
    const files = { tokenizerJson: JSON.stringify(json), tokenizerConfig: '{}' }
    t.throws(() => Tokenizer.fromFiles(files), {
      instanceOf: PosttrainError,
      code: 'ERR_INVALID_FILE',
      message,
    })
  })
}

test('an unknown kind of model is refused by name', (t) => {
  const json = JSON.parse(tokenizerJson)
  json.model.type = 'Nonsense'
  const files = { tokenizerJson: JSON.stringify(json), tokenizerConfig: '{}' }
  t.throws(() => Tokenizer.fromFiles(files), {
    code: 'ERR_UNSUPPORTED_MODEL',
    message: /model\.type "Nonsense"/,
  })
})

/** 50,000 in a longer run. */
const MUTANTS = Number(process.env.POSTTRAIN_FUZZ_TOKENIZERS ?? 2_000)

test(`${MUTANTS} spoiled tokenizer.json give typed errors or work, each within two seconds`, (t) => {
  const alphabet = [
    '{',
    '}',
    '[',
    ']',
    '"',
    ',',
    ':',
    '0',
    '-',
    'null',
    'true',
    '\\',
    '\u0000',
    '9'.repeat(20),
    '{}',
  ]
  let refusals = 0
  for (let n = 0; n < MUTANTS; n++) {
    let text = tokenizerJson
    for (let k = 0; k <= n % 3; k++) {
      // Half of them in the head, where the structure is.
      const range = n % 2 === 0 ? Math.min(1500, text.length) : text.length
      const at = hash32(1, n, k * 3) % range
      const cut = hash32(1, n, k * 3 + 1) % 40
      text = text.slice(0, at) + alphabet[hash32(1, n, k * 3 + 2) % alphabet.length] + text.slice(at + cut)
    }
    const start = performance.now()
    try {
      const own = Tokenizer.fromFiles({ tokenizerJson: text, tokenizerConfig: '{}' })
      own.decode(own.encode('Yes 这'))
    } catch (error) {
      refusals++
      if (!(error instanceof PosttrainError)) t.fail(`case ${n}: ${(error as Error).stack}`)
    }
    if (performance.now() - start > 2_000) t.fail(`case ${n} took more than two seconds`)
  }
  t.true(refusals > MUTANTS / 4, `${refusals} refusals`)
})

test('values of the wrong kind anywhere in a tokenizer give typed errors or work', (t) => {
  const values: unknown[] = [null, 5, -1, 'x', [], {}, true, [null], { type: 'Nonsense' }, { type: null }]
  const small = JSON.parse(tokenizerJson)
  const paths: string[][] = []
  const walk = (node: unknown, path: string[]) => {
    paths.push(path)
    if (typeof node !== 'object' || node === null || path.length > 3) return
    for (const key of Object.keys(node).slice(0, 8))
      walk((node as Record<string, unknown>)[key], [...path, key])
  }
  walk(small, [])
  for (const path of paths.slice(1)) {
    for (const value of values) {
      const json = JSON.parse(tokenizerJson)
      let node = json
      for (const key of path.slice(0, -1)) node = node[key]
      node[path.at(-1)!] = value
      try {
        const own = Tokenizer.fromFiles({ tokenizerJson: JSON.stringify(json), tokenizerConfig: '{}' })
        own.decode(own.encode('Yes 这'))
      } catch (error) {
        if (!(error instanceof PosttrainError))
          t.fail(`${path.join('.')} = ${JSON.stringify(value)}: ${(error as Error).stack}`)
      }
    }
  }
  t.true(paths.length > 30)
})
