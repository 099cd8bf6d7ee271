import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { shorten } from '../../arguments.js'
import { PosttrainError } from '../../errors.js'
import { byteLetters } from './byte-level.js'
import { LinearRegex } from './linear-regex.js'
import { normalizerBy } from './normalizers.js'
import { type PartJson, type Words, wordsBy } from './pre-tokenizers.js'
import { compile, parsePattern, plainlyBounded } from './regex-program.js'
import type { Json } from './tokenizer-files.js'

/** Hugging Face's tokenizer, as far as used; its own types do not compile without `skipLibCheck`. */
export interface Encoder {
  /** Lowers case and removes accents, or makes white space one space each, before the normalizer. */
  do_lowercase_and_remove_accent: boolean
  remove_space: boolean
  normalizer: ((text: string) => string) | null
  pre_tokenizer: Part | null
  model: Model
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] }
  decode(
    ids: number[],
    options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean },
  ): string
  token_to_id(token: string): number | undefined
  id_to_token(id: number): string | undefined
}

/** Split patterns of known tokenizers, for which backtracking is linear: V8 runs them. */
const KNOWN_PATTERNS: ReadonlySet<string> = new Set([
  // GPT-2
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
  // GPT-4 and Llama 3, Qwen 2 and 3, StarCoder 2 and SmolLM's relatives: digits by three or by one
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,2}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  // GPT-4o and gpt-oss, Mistral's Tekken, Llama 4
  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  '[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+',
  // DeepSeek V3 and R1
  '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+',
])

/** Longest text that a normalizer or pre-tokenizer may make of a shorter one: NFKD has characters that become 18. */
const GROWTH = 32
/** Pieces of a text that are joined at once, since each needs the memory of some fifty characters. */
const PIECES = 8_192
const GROWTH_FLOOR = 65_536

/** What makes tokens of a word. */
export interface Model {
  config: { type?: string }
  vocab: readonly string[]
  tokens_to_ids: ReadonlyMap<string, number>
  unk_token_id: number | undefined
  fuse_unk: boolean
  /** Joined to the last character of a word, and to tokens that another follows, by byte-pair merges. */
  end_of_word_suffix?: string | null
  continuing_subword_suffix?: string | null
  encode(words: string[]): string[]
  /** Pairs of byte-pair merges, the first ones before the others; only of models that merge. */
  merges?: readonly (readonly string[])[]
  /** A word that is a token is never merged. */
  ignore_merges?: boolean
}

/** A normalizer, pre-tokenizer or decoder. */
export interface Part {
  pattern?: RegExp | LinearRegex | null
  normalizers?: Part[]
  tokenizers?: Part[]
  decoders?: Part[]
  normalize?(text: string): string
  pre_tokenize_text?(text: string, options: unknown): string[]
  /** The words of a pre-tokenizer, one after another, and how it spells each. */
  words?: Words
  spell?(word: string): string
  /** Begins to count what the normalizer or pre-tokenizer makes of a text of so many characters. */
  begin?(length: number): void
  decode_chain?(tokens: string[]): string[]
}

/** What the parts of one kind may make of the text that the encoder gives to the outermost of them. */
class Growth {
  #from = 0
  #made = new Map<Part, number>()

  /** Begins with a text of so many characters. */
  start(length: number): void {
    this.#from = length
    this.#made.clear()
  }

  get limit(): number {
    return GROWTH * this.#from + GROWTH_FLOOR
  }

  /** Counts what a part made, over all pieces of the text. */
  count(part: Part, length: number): void {
    const made = (this.#made.get(part) ?? 0) + length
    this.#made.set(part, made)
    if (made > this.limit) {
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        `tokenizer.json makes a text of ${this.#from} characters more than ${this.limit} long and is refused`,
      )
    }
  }
}

const total = (texts: readonly string[]) => texts.reduce((sum, { length }) => sum + length, 0)

/** Replaces every match by the same text, without what `$` means to JavaScript, while the result is short enough. */
function replaced(text: string, part: Part, content: string, growth: Growth): string {
  let result = ''
  let pieces: string[] = []
  let from = 0
  let wasEmpty = true
  for (const match of text.matchAll(part.pattern as RegExp)) {
    // Nothing is found at the very end of what was found before.
    if (match[0] === '' && from > 0 && match.index === from && !wasEmpty) continue
    wasEmpty = match[0] === ''
    pieces.push(text.slice(from, match.index), content)
    growth.count(part, content.length)
    from = match.index + match[0].length
    if (pieces.length < PIECES) continue
    result += pieces.join('')
    pieces = []
  }
  return from === 0 && pieces.length === 0 ? text : result + pieces.join('') + text.slice(from)
}

/** Runs the pattern of a part in linear time, unless V8 does so. */
function linear(part: Part, source: string | undefined): void {
  if (!(part.pattern instanceof RegExp) || source === undefined || KNOWN_PATTERNS.has(source)) return
  const parsed = parsePattern(part.pattern.source)
  const name = JSON.stringify(shorten(source, 80))
  if (!plainlyBounded(parsed)) part.pattern = new LinearRegex(compile(parsed, name), name)
}

/** Bounds what a part and those within it take and make. */
function bound(part: Part | null | undefined, json: PartJson, growth: Growth, outermost: boolean): void {
  if (part === null || part === undefined) return
  const jsons = json.normalizers ?? json.pretokenizers ?? json.decoders
  for (const [i, inner] of (part.normalizers ?? part.tokenizers ?? part.decoders ?? []).entries())
    bound(inner, jsons![i]!, growth, false)
  linear(part, json.pattern?.Regex)
  const replaces = json.type === 'Replace' && part.pattern !== null && part.pattern !== undefined
  const replacement = json.content ?? ''
  const begin = (length: number) => {
    if (outermost) growth.start(length)
  }
  part.begin = begin
  if (part.normalize !== undefined) {
    const inner = normalizerBy(json) ?? part.normalize.bind(part)
    part.normalize = (text) => {
      begin(text.length)
      const result = replaces ? replaced(text, part, replacement, growth) : inner(text)
      growth.count(part, result.length)
      return result
    }
  }
  if (part.pre_tokenize_text !== undefined) {
    const inner = part.pre_tokenize_text.bind(part)
    part.pre_tokenize_text = (text, options) => {
      begin(text.length)
      if (part.words === undefined) return inner(text, options)
      return Array.from(part.words(text, true), (word) => part.spell?.(word) ?? word)
    }
    if (part.tokenizers !== undefined) return
    if (json.type === 'ByteLevel') part.spell = byteLetters
    const words = wordsBy(json, part.pattern)
    const whole = (text: string) =>
      replaces ? [replaced(text, part, replacement, growth)] : inner(text, { section_index: 0 })
    part.words = function* (text, start) {
      for (const word of words?.(text, start) ?? whole(text)) {
        growth.count(part, word.length)
        yield word
      }
    }
  }
  if (part.decode_chain !== undefined) {
    const inner = part.decode_chain.bind(part)
    part.decode_chain = (tokens) => {
      begin(total(tokens))
      const result = replaces
        ? tokens.map((token) => replaced(token, part, replacement, growth))
        : inner(tokens)
      growth.count(part, total(result))
      return result
    }
  }
}

/** Makes the encoder of a checked tokenizer.json. */
export function encoderOf(json: Json, config: Json): Encoder {
  const text = (name: string) => (typeof config[name] === 'string' ? { [name]: config[name] } : {})
  return orDamaged(() => {
    const encoder = new HuggingFaceTokenizer(json, {
      remove_space: config.remove_space === true,
      do_lowercase_and_remove_accent: config.do_lowercase_and_remove_accent === true,
      clean_up_tokenization_spaces: false,
      ...text('eos_token'),
    })
    for (const part of ['normalizer', 'pre_tokenizer', 'decoder'] as const)
      bound(
        (encoder as unknown as Record<string, Part | null>)[part],
        (json[part] ?? {}) as PartJson,
        new Growth(),
        true,
      )
    return encoder
  })
}

/** Runs `compute`; ERR_INVALID_FILE where the encoder that tokenizer.json describes fails. */
export function orDamaged<Result>(compute: () => Result): Result {
  try {
    return compute()
  } catch (cause) {
    if (cause instanceof PosttrainError) throw cause
    // Syntax errors speak of the pattern; others, such as TypeErrors, of the program.
    const detail = cause instanceof SyntaxError ? `: ${cause.message}` : ', and seems damaged'
    throw new PosttrainError('ERR_INVALID_FILE', `tokenizer.json cannot be used${detail}`, { cause })
  }
}
