import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { Tokenizer } from '../../lib/data/index.js'
import { LinearRegex } from '../../lib/data/text/linear-regex.js'
import { compile, parsePattern } from '../../lib/data/text/regex-program.js'
import { PosttrainError } from '../../lib/errors.js'
import { hash32 } from '../../lib/random.js'
import { fixture } from '../helpers/fixtures.js'

type Json = Record<string, unknown>

/** The tokenizer of a fixture with other parts. */
function tokenizer(kind: string, parts: Json, model: Json = {}): Tokenizer {
  const json = JSON.parse(readFileSync(join(fixture('tokenizers'), `${kind}.json`), 'utf8')) as Json
  const changed = { ...json, ...parts, model: { ...(json.model as Json), ...model } }
  return Tokenizer.fromFiles({ tokenizerJson: JSON.stringify(changed), tokenizerConfig: '{}' })
}

/** Milliseconds that every answer may take, a refusal too. */
const SOON = 2_000

function soon<Result>(t: ExecutionContext, compute: () => Result): Result {
  const start = performance.now()
  try {
    return compute()
  } finally {
    const took = performance.now() - start
    t.true(took < SOON, `${took} ms`)
  }
}

const regex = (Regex: string) => ({ type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false })
const splits = (Regex: string) => ({
  pre_tokenizer: {
    type: 'Sequence',
    pretokenizers: [regex(Regex), { type: 'ByteLevel', add_prefix_space: false, use_regex: false }],
  },
})
const replaces = (Regex: string, content: string) => ({ type: 'Replace', pattern: { Regex }, content })

for (const [pattern, text] of [
  ['(a+)+$', `${'a'.repeat(28)}!`],
  ['(a|aa)+$', `${'a'.repeat(5_000)}!`],
  ['(\\s*)*x', ' '.repeat(20_000)],
  ['a*b', 'a'.repeat(20_000)],
  ['(?=(a*)*b)a', 'a'.repeat(2_000)],
  ['(?<!(a|b|ab)*c)x', 'ab'.repeat(2_000)],
  ['^(([a-z])+.)+[A-Z]([a-z])+$', 'a'.repeat(5_000)],
] as const) {
  test(`the pattern ${pattern} ends soon on a text made for it`, (t) => {
    const own = tokenizer('gpt2', splits(pattern))
    const ids = soon(t, () => own.encode(text))
    t.is(own.decode(ids), text)
  })
}

test('a normalizer with a pattern that backtracks loads and encodes soon', (t) => {
  const own = soon(t, () => tokenizer('gpt2', { normalizer: replaces('(a+)+$', 'b') }))
  t.is(own.decode(soon(t, () => own.encode(`${'a'.repeat(28)}!aa`))), `${'a'.repeat(28)}!b`)
})

test('what the linear engine matches is what V8 matches', (t) => {
  const characters = [..."aabbbccc  \n\rxX1Éé这😀'st.!/"]
  for (const pattern of [
    "'s|'t| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    '(a+)+$',
    'a*?b|c{2,3}?',
    '(?<=a)b|(?<!ab)c+',
    '(?=(a|b)+c)a',
    '(?:a|)*b',
    'x*',
    '(?<=(?:ab)+)c',
    '(?!a|b.).',
    '^a|.$',
  ]) {
    const linear = new LinearRegex(compile(parsePattern(pattern), pattern), pattern)
    const found = (by: RegExp, text: string) =>
      [...text.matchAll(by)].map(({ 0: match, index }) => [index, match])
    for (let n = 0; n < 400; n++) {
      const length = hash32(5, n, 0) % 24
      const text = Array.from({ length }, (_, i) => characters[hash32(5, n, i + 1) % characters.length]).join(
        '',
      )
      const by = linear as unknown as RegExp
      t.deepEqual(
        found(by, text),
        found(new RegExp(pattern, 'gu'), text),
        `${pattern} ${JSON.stringify(text)}`,
      )
    }
  }
})

test('tokens that take the white space beside them take it in linear time', (t) => {
  for (const [lstrip, rstrip] of [
    [true, false],
    [false, true],
    [true, true],
  ]) {
    const own = tokenizer('gpt2', {
      added_tokens: [{ id: 420, content: '<mask>', lstrip, rstrip, special: true }],
    })
    const text = `${' '.repeat(200_000)}x`
    soon(t, () => own.added(text))
    soon(t, () => own.firstSpecial(text))
    t.deepEqual(
      [...own.encode('  <mask>  ', { allowSpecial: true })].filter((id) => id === 420),
      [420],
    )
  }
})

const refused: [string, () => Tokenizer, RegExp][] = [
  [
    'nine normalizers that each make ten characters of one',
    () =>
      tokenizer('gpt2', {
        normalizer: {
          type: 'Sequence',
          normalizers: Array.from({ length: 9 }, () => replaces('a', 'a'.repeat(10))),
        },
      }),
    /makes a text of 1 characters more than \d+ long/,
  ],
  [
    'pre-tokenizers that double every byte',
    () =>
      tokenizer('gpt2', {
        pre_tokenizer: {
          type: 'Sequence',
          pretokenizers: Array.from({ length: 40 }, () => ({
            type: 'ByteLevel',
            add_prefix_space: true,
            use_regex: false,
          })),
        },
      }),
    /makes a text of 1 characters more than \d+ long/,
  ],
  [
    'a pre-tokenizer of pieces without length',
    () => tokenizer('gpt2', { pre_tokenizer: { type: 'FixedLength', length: 0 } }),
    /pre_tokenizer\.length of FixedLength must be a whole number of at least 1/,
  ],
  [
    'a pattern of 20,000 characters',
    () => tokenizer('gpt2', splits('a'.repeat(20_000))),
    /at most 10000 characters/,
  ],
  [
    'a pattern of nested groups',
    () => tokenizer('gpt2', splits(`${'('.repeat(4_000)}a${')'.repeat(4_000)}`)),
    /tokenizer\.json/,
  ],
  [
    'a pattern of a million repeats',
    () => tokenizer('gpt2', splits('(?:(?:a{1,1000}){1,1000})b')),
    /more than 2000 parts/,
  ],
  ['a pattern that refers back', () => tokenizer('gpt2', splits('(a*)\\1')), /refers back to a group/],
  [
    'an unknown normalizer',
    () => tokenizer('gpt2', { normalizer: { type: 'Nmt' } }),
    /normalizer\.type "Nmt" is not supported/,
  ],
  [
    'words of any length',
    () => tokenizer('bert', {}, { max_input_chars_per_word: 1e9 }),
    /max_input_chars_per_word must be at most/,
  ],
  [
    'a vocabulary of tokens within tokens',
    () =>
      tokenizer(
        'unigram',
        {},
        { vocab: [['<unk>', 0], ...Array.from({ length: 500 }, (_, i) => ['a'.repeat(i + 1), -1])] },
      ),
    /more than 64 tokens within one another/,
  ],
  [
    'parts nested 1,000 deep',
    () => {
      let normalizer: Json = { type: 'NFC' }
      for (let i = 0; i < 1_000; i++) normalizer = { type: 'Sequence', normalizers: [normalizer] }
      return tokenizer('gpt2', { normalizer })
    },
    /more than 128 parts|nested/,
  ],
]
for (const [what, load, message] of refused) {
  test(`a tokenizer with ${what} is refused soon`, (t) => {
    const error = t.throws(() => soon(t, load), { instanceOf: PosttrainError, message })
    t.regex(error?.code ?? '', /^ERR_(INVALID_FILE|UNSUPPORTED_MODEL)$/)
  })
}

test('a piece for which the vocabulary has no token is an error, not token 0', (t) => {
  const { model } = JSON.parse(readFileSync(join(fixture('tokenizers'), 'bert.json'), 'utf8')) as {
    model: { vocab: Json }
  }
  const { '[UNK]': _, ...vocab } = model.vocab
  const own = tokenizer('bert', { added_tokens: [] }, { vocab })
  t.throws(() => own.encode('😀'), { code: 'ERR_INVALID_FILE', message: /no token/ })
})
