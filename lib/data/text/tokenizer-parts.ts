import { PosttrainError } from '../../errors.js'
import { SPLIT_BEHAVIORS } from './split.js'

type Json = Record<string, unknown>

/** More parts than any tokenizer has; each reads every text once. */
const MAX_PARTS = 128
/** Longest pattern, in characters: those of known tokenizers have up to 600. */
const MAX_PATTERN = 10_000
/** Most characters of one word of WordPiece, whose search is cubic in them. BERT's is 100. */
const MAX_WORD = 256
/** Most tokens of a Unigram vocabulary that begin, or end, one another: the lattice holds each pair of them. */
const MAX_NESTED_PIECES = 64

const damaged = (what: string) => new PosttrainError('ERR_INVALID_FILE', `tokenizer.json: ${what}`)

type Kind =
  | 'string'
  | 'text?'
  | 'character?'
  | 'flag?'
  | 'count?'
  | 'length'
  | 'pattern'
  | 'parts'
  | 'template'
  | 'token'
  | 'texts?'
  | 'behavior?'
type Fields = Record<string, Kind>

const REPLACE: Fields = { pattern: 'pattern', content: 'text?' }
const BYTE_LEVEL: Fields = { add_prefix_space: 'flag?', use_regex: 'flag?' }
const METASPACE: Fields = {
  replacement: 'character?',
  prepend_scheme: 'text?',
  add_prefix_space: 'flag?',
  split: 'flag?',
}

/** Parts of tokenizer.json with the fields that the encoder reads. */
const PARTS: Record<string, Record<string, Fields>> = {
  normalizer: {
    BertNormalizer: {
      clean_text: 'flag?',
      handle_chinese_chars: 'flag?',
      strip_accents: 'flag?',
      lowercase: 'flag?',
    },
    Precompiled: {},
    Sequence: { normalizers: 'parts' },
    Replace: REPLACE,
    NFC: {},
    NFD: {},
    NFKC: {},
    NFKD: {},
    Strip: { strip_left: 'flag?', strip_right: 'flag?' },
    StripAccents: {},
    Lowercase: {},
    Prepend: { prepend: 'string' },
  },
  pre_tokenizer: {
    BertPreTokenizer: {},
    Sequence: { pretokenizers: 'parts' },
    Whitespace: {},
    WhitespaceSplit: {},
    Metaspace: METASPACE,
    ByteLevel: BYTE_LEVEL,
    Split: { pattern: 'pattern', behavior: 'behavior?', invert: 'flag?' },
    Punctuation: { behavior: 'behavior?' },
    Digits: { individual_digits: 'flag?' },
    Replace: REPLACE,
    FixedLength: { length: 'length' },
  },
  post_processor: {
    TemplateProcessing: { single: 'template' },
    ByteLevel: {},
    RobertaProcessing: { sep: 'token', cls: 'token' },
    BertProcessing: { sep: 'token', cls: 'token' },
    Sequence: { processors: 'parts' },
  },
  decoder: {
    ByteLevel: {},
    WordPiece: { prefix: 'text?' },
    Metaspace: METASPACE,
    BPEDecoder: { suffix: 'text?' },
    CTC: { pad_token: 'text?', word_delimiter_token: 'text?' },
    Sequence: { decoders: 'parts' },
    Replace: REPLACE,
    Fuse: {},
    Strip: { content: 'text?', start: 'count?', stop: 'count?' },
    ByteFallback: {},
  },
}

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const isMissing = (value: unknown) => value === undefined || value === null
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0

/** A pattern: `{ String }` or `{ Regex }` of bounded length. */
function isPattern(value: unknown): boolean {
  if (!isObject(value)) return false
  const text = value.Regex ?? value.String
  return typeof text === 'string' && text.length <= MAX_PATTERN
}

function isTemplateItem(value: unknown): boolean {
  if (!isObject(value)) return false
  const item = value.SpecialToken ?? value.Sequence
  return isObject(item) && typeof item.id === 'string'
}

const HOLDS: Record<Kind, { test: (value: unknown) => boolean; expected: string }> = {
  string: { test: (value) => typeof value === 'string', expected: 'a string' },
  'text?': { test: (value) => isMissing(value) || typeof value === 'string', expected: 'a string' },
  'texts?': {
    test: (value) =>
      isMissing(value) || (Array.isArray(value) && value.every((item) => typeof item === 'string')),
    expected: 'a list of strings',
  },
  'character?': {
    test: (value) => isMissing(value) || (typeof value === 'string' && [...value].length === 1),
    expected: 'one character',
  },
  'flag?': { test: (value) => isMissing(value) || typeof value === 'boolean', expected: 'true or false' },
  'count?': { test: (value) => isMissing(value) || isCount(value), expected: 'a count' },
  length: { test: (value) => isCount(value) && value > 0, expected: 'a whole number of at least 1' },
  pattern: { test: isPattern, expected: `{ "String" } or { "Regex" } of at most ${MAX_PATTERN} characters` },
  parts: { test: Array.isArray, expected: 'a list' },
  template: {
    test: (value) => Array.isArray(value) && value.length <= MAX_PARTS && value.every(isTemplateItem),
    expected: `a list of at most ${MAX_PARTS} { "SpecialToken" } and { "Sequence" } with an id`,
  },
  'behavior?': {
    test: (value) =>
      isMissing(value) ||
      (typeof value === 'string' &&
        SPLIT_BEHAVIORS.some((behavior) => behavior === value.toLowerCase().replaceAll('_', ''))),
    expected: 'Isolated, Removed, Contiguous, MergedWithPrevious or MergedWithNext',
  },
  token: {
    test: (value) => Array.isArray(value) && typeof value[0] === 'string',
    expected: 'a token and its id',
  },
}

/** Checks a part and those within it; ERR_INVALID_FILE or ERR_UNSUPPORTED_MODEL names the field. */
function checkPart(
  part: unknown,
  kinds: Record<string, Fields>,
  where: string,
  counted: { parts: number },
): void {
  if (!isObject(part)) throw damaged(`${where} must be an object`)
  if (++counted.parts > MAX_PARTS) throw damaged(`it has more than ${MAX_PARTS} parts`)
  const type = String(part.type)
  const fields = Object.hasOwn(kinds, type) ? kinds[type]! : undefined
  if (fields === undefined) {
    throw new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      `tokenizer.json: ${where}.type ${JSON.stringify(part.type)} is not supported; it must be one of ${Object.keys(kinds).join(', ')}`,
    )
  }
  for (const [field, kind] of Object.entries(fields)) {
    const value = part[field]
    const { test, expected } = HOLDS[kind]
    if (!test(value) && !(kind === 'parts' && isMissing(value)))
      throw damaged(`${where}.${field} of ${type} must be ${expected}`)
    if (kind !== 'parts') continue
    for (const [i, item] of ((value ?? []) as unknown[]).entries())
      checkPart(item, kinds, `${where}.${field}[${i}]`, counted)
  }
}

/** Most pieces that are each the beginning of the next, in a list sorted by code units. */
function longestNesting(pieces: readonly string[]): number {
  const open: string[] = []
  let most = 0
  for (const piece of [...pieces].sort()) {
    while (open.length > 0 && !piece.startsWith(open.at(-1)!)) open.pop()
    open.push(piece)
    most = Math.max(most, open.length)
  }
  return most
}

function checkUnigram({ vocab, unk_id: unknown, byte_fallback: bytes }: Json): void {
  if (!HOLDS['flag?'].test(bytes)) throw damaged('model.byte_fallback must be true or false')
  const pair = (item: unknown) =>
    Array.isArray(item) && typeof item[0] === 'string' && typeof item[1] === 'number'
  if (!Array.isArray(vocab) || vocab.length === 0 || !vocab.every(pair))
    throw damaged('model.vocab of Unigram must be a list of tokens with their scores')
  if (!isMissing(unknown) && !(isCount(unknown) && unknown < vocab.length))
    throw damaged('model.unk_id must be the id of a token')
  const pieces = (vocab as [string][]).map(([piece]) => piece)
  const reversed = pieces.map((piece) => [...piece].reverse().join(''))
  if (Math.max(longestNesting(pieces), longestNesting(reversed)) > MAX_NESTED_PIECES) {
    throw new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      `tokenizer.json: model.vocab has more than ${MAX_NESTED_PIECES} tokens within one another and is refused`,
    )
  }
}

function checkModel(model: Json): void {
  const { type, vocab } = model
  if (type === 'Unigram' || (type === undefined && Array.isArray(vocab))) {
    checkUnigram(model)
    return
  }
  if (!isObject(vocab)) throw damaged('model.vocab must be an object with the id of each token')
  const fields: Fields = {
    unk_token: 'text?',
    continuing_subword_prefix: 'text?',
    continuing_subword_suffix: 'text?',
    end_of_word_suffix: 'text?',
    fuse_unk: 'flag?',
    byte_fallback: 'flag?',
    ignore_merges: 'flag?',
    max_input_chars_per_word: 'count?',
  }
  for (const [field, kind] of Object.entries(fields))
    if (!HOLDS[kind].test(model[field])) throw damaged(`model.${field} must be ${HOLDS[kind].expected}`)
  if (type === 'BPE' || (type === undefined && model.merges !== undefined)) {
    const { merges } = model
    const pair = (item: unknown) =>
      typeof item === 'string' || (Array.isArray(item) && item.length === 2 && HOLDS['texts?'].test(item))
    if (!Array.isArray(merges) || !merges.every(pair))
      throw damaged('model.merges must be a list of pairs of tokens')
    // The encoder reads the spelling of the first for all.
    if (merges.some((item) => typeof item !== typeof merges[0]))
      throw damaged('model.merges must be all strings or all pairs')
  }
  if (((model.max_input_chars_per_word as number | undefined) ?? 0) > MAX_WORD) {
    throw new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      `tokenizer.json: model.max_input_chars_per_word must be at most ${MAX_WORD}`,
    )
  }
}

/** Checks every part of tokenizer.json that the encoder reads, so that it neither fails inside nor runs without end. */
export function checkParts(json: Json): void {
  const counted = { parts: 0 }
  for (const [name, kinds] of Object.entries(PARTS))
    if (!isMissing(json[name])) checkPart(json[name], kinds, name, counted)
  checkModel(json.model as Json)
}
