import type { LinearRegex } from './linear-regex.js'
import { matchesOf, splitText } from './split.js'

/** A normalizer, pre-tokenizer or decoder in tokenizer.json, as far as its fields change what we do. */
export interface PartJson {
  type?: string
  pattern?: { Regex?: string; String?: string }
  content?: string | null
  behavior?: string | null
  invert?: boolean | null
  individual_digits?: boolean | null
  add_prefix_space?: boolean | null
  use_regex?: boolean | null
  replacement?: string | null
  prepend_scheme?: string | null
  split?: boolean | null
  length?: number
  strip_left?: boolean
  strip_right?: boolean
  clean_text?: boolean
  handle_chinese_chars?: boolean
  strip_accents?: boolean | null
  lowercase?: boolean
  normalizers?: PartJson[]
  pretokenizers?: PartJson[]
  decoders?: PartJson[]
}

/** The words of a text in order; `start` says that the text is the start of what is encoded. */
export type Words = (text: string, start: boolean) => Iterable<string>

/** ASCII symbols count as punctuation beside Unicode's. */
const PUNCTUATION = /[\p{P}!-/:-@[-`{-~]/gu
/** White space is Unicode's: JavaScript's `\s` lacks U+0085 and has U+FEFF. */
const GPT2 =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu

/** Patterns of pre-tokenizers that take what they match and leave out the rest. */
const TAKEN: Readonly<Record<string, RegExp>> = {
  BertPreTokenizer: /[^\p{White_Space}\p{P}!-/:-@[-`{-~]+|[\p{P}!-/:-@[-`{-~]/gu,
  Whitespace:
    /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\p{White_Space}]+/gu,
  WhitespaceSplit: /\P{White_Space}+/gu,
}

/** The words of ByteLevel, before their bytes are spelled. */
function byteLevel({ add_prefix_space: prefix, use_regex: regex }: PartJson): Words {
  return (text) => {
    const whole = prefix === true && !text.startsWith(' ') ? ` ${text}` : text
    return regex === false ? [whole] : matchesOf(whole, GPT2)
  }
}

/** The scheme by which Metaspace puts its mark before a text; older files say it by a flag. */
const prependScheme = ({ prepend_scheme: scheme, add_prefix_space: prefix }: PartJson) =>
  prefix === false ? 'never' : (scheme ?? 'always')

function metaspace(json: PartJson): Words {
  const mark = json.replacement ?? '\u2581'
  const scheme = prependScheme(json)
  return function* (text, start) {
    const marked = text.replaceAll(' ', mark)
    const prepends = (scheme === 'always' || (scheme === 'first' && start)) && !marked.startsWith(mark)
    const whole = prepends ? mark + marked : marked
    let from = 0
    if (json.split !== false) {
      for (let at = whole.indexOf(mark, 1); at > 0; at = whole.indexOf(mark, from + 1)) {
        yield whole.slice(from, at)
        from = at
      }
    }
    yield whole.slice(from)
  }
}

/** Pieces of so many characters. */
function fixedLength(length: number): Words {
  return function* (text) {
    let [from, count] = [0, 0]
    for (let at = 0; at < text.length; ) {
      at += text.codePointAt(at)! > 0xffff ? 2 : 1
      if (++count < length && at < text.length) continue
      yield text.slice(from, at)
      ;[from, count] = [at, 0]
    }
  }
}

/** The words of a pre-tokenizer as tokenizers (Rust) makes them; null for kinds that the library makes alike. */
export function wordsBy(json: PartJson, pattern: RegExp | LinearRegex | null | undefined): Words | null {
  const { type = '', behavior, invert, individual_digits: single } = json
  if (type === 'ByteLevel') return byteLevel(json)
  if (type === 'Metaspace') return metaspace(json)
  if (type === 'FixedLength') return fixedLength(json.length!)
  // Any numeric character, as ½, is a digit.
  const digits = single === true ? /\p{N}/gu : /\p{N}+/gu
  if (type === 'Digits') return (text) => splitText(text, digits, 'isolated', false)
  if (type === 'Punctuation' || type === 'Split') {
    const splits = type === 'Punctuation' ? PUNCTUATION : (pattern as RegExp)
    const rule = (behavior ?? 'isolated').toLowerCase().replaceAll('_', '')
    return (text) => splitText(text, splits, rule, invert === true)
  }
  const taken = Object.hasOwn(TAKEN, type) ? TAKEN[type]! : null
  return taken === null ? null : (text) => matchesOf(text, taken)
}
