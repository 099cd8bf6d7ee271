import type { PartJson } from './pre-tokenizers.js'

/** Lower case of each character by itself: a Greek sigma at the end of a word is one like any other. */
const lowered = (text: string) =>
  text
    .split('\u03a3')
    .map((piece) => piece.toLowerCase())
    .join('\u03c3')

/** BERT's Chinese characters; the gap after U+2B81F is that of tokenizers (Rust). */
const CHINESE =
  /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu

function bert(json: PartJson): (text: string) => string {
  const lowercase = json.lowercase ?? true
  const strips = json.strip_accents ?? lowercase
  return (text) => {
    let result = text
    if (json.clean_text ?? true) {
      // Tab, line feed and carriage return are white space and no control characters.
      result = result
        .replace(/(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}\ufffd]/gu, '')
        .replace(/\p{White_Space}/gu, ' ')
    }
    if (json.handle_chinese_chars ?? true) result = result.replace(CHINESE, ' $& ')
    if (strips) result = result.normalize('NFD').replace(/\p{Mn}/gu, '')
    return lowercase ? lowered(result) : result
  }
}

/** A normalizer as tokenizers (Rust) normalizes; null for kinds in which the library does alike. */
export function normalizerBy(json: PartJson): ((text: string) => string) | null {
  if (json.type === 'Lowercase') return lowered
  if (json.type === 'BertNormalizer') return bert(json)
  if (json.type !== 'Strip') return null
  const { strip_left: left, strip_right: right } = json
  return (text) => {
    const isWhite = (at: number) => /\p{White_Space}/u.test(text[at]!)
    let [from, to] = [0, text.length]
    while (left === true && from < to && isWhite(from)) from++
    while (right === true && from < to && isWhite(to - 1)) to--
    return text.slice(from, to)
  }
}
