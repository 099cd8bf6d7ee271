import { isSpace, skipSpace, spaceBefore } from './characters.js'
import { SyntaxFailure } from './failure.js'
import { charge, MAX_TOKENS } from './limits.js'

export type TokenKind =
  | 'data'
  | 'begin' // {%
  | 'end' // %}
  | 'print' // {{
  | 'printed' // }}
  | 'name'
  | 'string'
  | 'integer'
  | 'float'
  | 'operator'
  | 'eof'

export interface Token {
  readonly kind: TokenKind
  /** Text, name, unescaped string, operator, or digits without underscores. */
  readonly value: string
  readonly line: number
}

const NAME = /[\p{L}\p{N}\p{M}_\u00b7]+/uy
const IDENTIFIER = /^[\p{ID_Start}_][\p{ID_Continue}]*$/u
const FLOAT = /(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?e[+-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+)/iy
const INTEGER = /0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[\da-f])+|[1-9](?:_?\d)*|0(?:_?0)*/iy
const CLOSING: Record<string, string> = { '(': ')', '[': ']', '{': '}' }
const LONG = new Set(['//', '**', '==', '!=', '>=', '<='])
const SHORT = '+-/*%~[](){}><=.:|,;'

/**
 * Splits a template into tokens, in one pass. Blocks take the line end after them and the indent before them
 * (trim_blocks, lstrip_blocks); `-` and `+` at a tag decide otherwise.
 */
export function tokenize(source: string): Token[] {
  const lines = source.replace(/\r\n?/g, '\n')
  return new Lexer(lines.endsWith('\n') ? lines.slice(0, -1) : lines).run()
}

class Lexer {
  readonly #source: string
  readonly #tokens: Token[] = []
  #at = 0
  #line = 1

  constructor(source: string) {
    this.#source = source
  }

  run(): Token[] {
    while (this.#at < this.#source.length) this.#root()
    this.#push('eof', '')
    return this.#tokens
  }

  #push(kind: TokenKind, value: string): void {
    if (this.#tokens.length === MAX_TOKENS) this.#fail(`it has more than ${MAX_TOKENS} words and symbols`)
    this.#tokens.push({ kind, value, line: this.#line })
  }

  /** Moves on, counting lines. */
  #advance(to: number): void {
    for (let i = this.#at; i < to; i++) if (this.#source.charCodeAt(i) === 10) this.#line++
    this.#at = to
  }

  #fail(message: string): never {
    throw new SyntaxFailure(message, this.#line)
  }

  /** Text up to the next tag, and that tag. */
  #root(): void {
    const source = this.#source
    let open = source.indexOf('{', this.#at)
    while (open >= 0 && !'%{#'.includes(source[open + 1] ?? ' ')) open = source.indexOf('{', open + 1)
    if (open < 0) {
      this.#push('data', source.slice(this.#at))
      this.#advance(source.length)
      return
    }
    const kind = source[open + 1]!
    const sign = source[open + 2] === '-' || source[open + 2] === '+' ? source[open + 2]! : ''
    const text = this.#stripped(open, sign, kind !== '{')
    if (text !== '') this.#push('data', text)
    this.#advance(open)
    const inside = open + 2 + sign.length
    if (kind === '%') {
      const raw = this.#rawEnd(inside)
      if (raw >= 0) this.#raw(raw)
      else {
        this.#push('begin', '')
        this.#advance(inside)
        this.#tag('%')
      }
    } else if (kind === '{') {
      this.#push('print', '')
      this.#advance(inside)
      this.#tag('}')
    } else {
      this.#advance(inside)
      this.#comment()
    }
  }

  /** Text before a tag, without the white space that the tag takes. */
  #stripped(end: number, sign: string, indent: boolean): string {
    const from = this.#at
    if (sign === '-') return this.#source.slice(from, spaceBefore(this.#source, end, from))
    if (sign === '' && indent) {
      const space = spaceBefore(this.#source, end, from)
      let start = end
      while (start > space && this.#source[start - 1] !== '\n') start--
      const fresh = start > space || (start === from && (from === 0 || this.#source[from - 1] === '\n'))
      if (fresh) return this.#source.slice(from, start)
    }
    return this.#source.slice(from, end)
  }

  /** Position behind the tag that begins a raw block; -1 for another tag. */
  #rawEnd(inside: number): number {
    const source = this.#source
    let at = skipSpace(source, inside)
    if (!source.startsWith('raw', at)) return -1
    at = skipSpace(source, at + 3)
    if (source.startsWith('-%}', at)) return skipSpace(source, at + 3)
    return source.startsWith('%}', at) ? at + 2 : -1
  }

  #raw(from: number): void {
    const source = this.#source
    this.#advance(from)
    for (let open = source.indexOf('{%', from); open >= 0; open = source.indexOf('{%', open + 2)) {
      const sign = source[open + 2] === '-' || source[open + 2] === '+' ? source[open + 2]! : ''
      let at = skipSpace(source, open + 2 + sign.length)
      if (!source.startsWith('endraw', at)) continue
      at = skipSpace(source, at + 6)
      const end = this.#closed(at, '%}')
      if (end < 0) continue
      const text = this.#stripped(open, sign, true)
      if (text !== '') this.#push('data', text)
      this.#advance(end)
      return
    }
    // As in Jinja2, where nothing follows nothing is missed.
    if (from < source.length) this.#fail('a raw block has no end')
  }

  #comment(): void {
    const close = this.#source.indexOf('#}', this.#at)
    if (close < 0) this.#fail('a comment has no end')
    const signed = close > this.#at && '-+'.includes(this.#source[close - 1]!)
    this.#advance(this.#closed(signed ? close - 1 : close, '#}'))
  }

  /** Position behind the end of a block or comment and the white space that it takes; -1 where there is no end. */
  #closed(at: number, end: string): number {
    const source = this.#source
    if (source.startsWith(end, at)) return source[at + 2] === '\n' ? at + 3 : at + 2
    if (!source.startsWith(end, at + 1)) return -1
    if (source[at] === '+') return at + 3
    return source[at] === '-' ? skipSpace(source, at + 3) : -1
  }

  /** Tokens of a block (`%`) or an expression (`}`), with its end. */
  #tag(kind: '%' | '}'): void {
    const source = this.#source
    const closing: string[] = []
    while (this.#at < source.length) {
      if (closing.length === 0) {
        const end = this.#tagEnd(kind)
        if (end >= 0) {
          this.#push(kind === '%' ? 'end' : 'printed', '')
          this.#advance(end)
          return
        }
      }
      if (isSpace(source.charCodeAt(this.#at))) this.#advance(skipSpace(source, this.#at))
      else this.#token(closing)
    }
  }

  #tagEnd(kind: '%' | '}'): number {
    if (kind === '%') return this.#closed(this.#at, '%}')
    if (this.#source.startsWith('}}', this.#at)) return this.#at + 2
    return this.#source.startsWith('-}}', this.#at) ? skipSpace(this.#source, this.#at + 3) : -1
  }

  #token(closing: string[]): void {
    const source = this.#source
    if (this.#literal()) return
    const character = source[this.#at]!
    if (character === "'" || character === '"') {
      this.#string(character)
      return
    }
    const long = source.slice(this.#at, this.#at + 2)
    const operator = LONG.has(long) ? long : character
    if (operator === character && !SHORT.includes(character)) {
      this.#fail(`unexpected character ${JSON.stringify(character)}`)
    }
    if (CLOSING[operator] !== undefined) closing.push(CLOSING[operator])
    else if (operator === ')' || operator === ']' || operator === '}') {
      const expected = closing.pop()
      if (expected !== operator) {
        this.#fail(`unexpected '${operator}'${expected === undefined ? '' : `, expected '${expected}'`}`)
      }
    }
    this.#word('operator', operator, operator.length)
  }

  /** A number or a name; false where there is none. */
  #literal(): boolean {
    const float = this.#source[this.#at - 1] === '.' ? null : this.#match(FLOAT)
    const integer = float === null ? this.#match(INTEGER) : null
    const number = float ?? integer
    if (number !== null) {
      this.#word(float === null ? 'integer' : 'float', number.replaceAll('_', ''), number.length)
      return true
    }
    const name = this.#match(NAME)
    if (name === null) return false
    if (!IDENTIFIER.test(name)) this.#fail(`${JSON.stringify(name)} is not a name`)
    this.#word('name', name, name.length)
    return true
  }

  #match(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at
    return pattern.exec(this.#source)?.[0] ?? null
  }

  #word(kind: TokenKind, value: string, length: number): void {
    this.#push(kind, value)
    this.#at += length
  }

  #string(quote: string): void {
    const source = this.#source
    let end = this.#at + 1
    while (end < source.length && source[end] !== quote) end += source[end] === '\\' ? 2 : 1
    if (end >= source.length) this.#fail('a string has no end')
    this.#push('string', this.#unescape(source.slice(this.#at + 1, end)))
    this.#advance(end + 1)
  }

  #unescape(text: string): string {
    if (!text.includes('\\')) return text
    charge(text.length / 2)
    return text.replace(
      /\\(?:([0-7]{1,3})|x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([\s\S]))/g,
      (whole, octal, x, u, long, single) => {
        if (octal !== undefined) return String.fromCharCode(Number.parseInt(octal, 8))
        const hex = x ?? u ?? long
        if (hex !== undefined) {
          const code = Number.parseInt(hex, 16)
          if (code > 0x10ffff) this.#fail(`${whole} is not a character`)
          return String.fromCodePoint(code)
        }
        if ('xuUN'.includes(single)) this.#fail(`the escape ${whole} in a string is not valid`)
        return ESCAPES[single] ?? whole
      },
    )
  }
}

const ESCAPES: Record<string, string> = {
  '\n': '',
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
}
