import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers'
import { PosttrainError } from '../../errors.js'
import { LinearRegex } from './linear-regex.js'
import { compile, parsePattern, plainlyBounded } from './regex-program.js'
import { splitText } from './split.js'
import type { Json } from './tokenizer-files.js'

/** Hugging Face's tokenizer, as far as used; its own types do not compile without `skipLibCheck`. */
export interface Encoder {
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
const GROWTH_FLOOR = 65_536

interface Part {
  config?: {
    type?: string
    pattern?: { Regex?: string; String?: string }
    content?: string | null
    behavior?: string | null
    invert?: boolean | null
    individual_digits?: boolean | null
  }
  pattern?: RegExp | LinearRegex | null
  normalizers?: Part[]
  tokenizers?: Part[]
  decoders?: Part[]
  normalize?(text: string): string
  pre_tokenize_text?(text: string, options: unknown): string[]
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
function replaced(text: string, part: Part, growth: Growth): string {
  const content = part.config?.content ?? ''
  const pieces: string[] = []
  let from = 0
  for (const match of text.matchAll(part.pattern as RegExp)) {
    pieces.push(text.slice(from, match.index), content)
    growth.count(part, content.length)
    from = match.index + match[0].length
  }
  return pieces.length === 0 ? text : pieces.join('') + text.slice(from)
}

/** Runs the pattern of a part in linear time, unless V8 does so. */
function linear(part: Part): void {
  const source = part.config?.pattern?.Regex
  if (!(part.pattern instanceof RegExp) || source === undefined || KNOWN_PATTERNS.has(source)) return
  const parsed = parsePattern(part.pattern.source)
  const name = JSON.stringify(source.length > 80 ? `${source.slice(0, 77)}...` : source)
  if (!plainlyBounded(parsed)) part.pattern = new LinearRegex(compile(parsed, name), name)
}

/** ASCII symbols count as punctuation beside Unicode's. */
const PUNCTUATION = /[\p{P}!-/:-@[-`{-~]/gu

/** Makes a pre-tokenizer split as tokenizers (Rust) does, where the JavaScript package does not. */
function exact(part: Part): void {
  const { type, behavior, invert, individual_digits: single } = part.config ?? {}
  const pattern = type === 'Punctuation' ? PUNCTUATION : (part.pattern as RegExp)
  // Any numeric character, as ½, is a digit.
  if (type === 'Digits') part.pattern = single === true ? /\P{N}+|\p{N}/gu : /\P{N}+|\p{N}+/gu
  if (type === 'Punctuation' || type === 'Split') {
    const rule = (behavior ?? 'isolated').toLowerCase().replaceAll('_', '')
    part.pre_tokenize_text = (text) => splitText(text, pattern, rule, invert === true)
  }
}

/** Bounds what a part and those within it take and make. */
function bound(part: Part | null | undefined, growth: Growth, outermost: boolean): void {
  if (part === null || part === undefined) return
  for (const inner of part.normalizers ?? part.tokenizers ?? part.decoders ?? []) bound(inner, growth, false)
  linear(part)
  exact(part)
  const replaces = part.config?.type === 'Replace' && part.pattern !== null && part.pattern !== undefined
  const begin = (length: number) => {
    if (outermost) growth.start(length)
  }
  if (part.normalize !== undefined) {
    const inner = part.normalize.bind(part)
    part.normalize = (text) => {
      begin(text.length)
      const result = replaces ? replaced(text, part, growth) : inner(text)
      growth.count(part, result.length)
      return result
    }
  }
  if (part.pre_tokenize_text !== undefined) {
    const inner = part.pre_tokenize_text.bind(part)
    part.pre_tokenize_text = (text, options) => {
      begin(text.length)
      const result = replaces ? [replaced(text, part, growth)] : inner(text, options)
      growth.count(part, total(result))
      return result
    }
  }
  if (part.decode_chain !== undefined) {
    const inner = part.decode_chain.bind(part)
    part.decode_chain = (tokens) => {
      begin(total(tokens))
      const result = replaces ? tokens.map((token) => replaced(token, part, growth)) : inner(tokens)
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
      bound((encoder as unknown as Record<string, Part | null>)[part], new Growth(), true)
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
