import { SyntaxFailure } from './failure.js'
import type { Token, TokenKind } from './lexer.js'

/** The tokens of a template, read one after the other. */
export class Tokens {
  readonly #tokens: readonly Token[]
  #at = 0

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens
  }

  get current(): Token {
    return this.#tokens[this.#at]!
  }

  get following(): Token {
    return this.#tokens[Math.min(this.#at + 1, this.#tokens.length - 1)]!
  }

  get line(): number {
    return this.current.line
  }

  next(): Token {
    const token = this.current
    if (token.kind !== 'eof') this.#at++
    return token
  }

  is(kind: TokenKind): boolean {
    return this.current.kind === kind
  }

  isName(name: string): boolean {
    return this.current.kind === 'name' && this.current.value === name
  }

  isOperator(operator: string): boolean {
    return this.current.kind === 'operator' && this.current.value === operator
  }

  skipName(name: string): boolean {
    if (!this.isName(name)) return false
    this.#at++
    return true
  }

  skipOperator(operator: string): boolean {
    if (!this.isOperator(operator)) return false
    this.#at++
    return true
  }

  expect(kind: TokenKind): Token {
    if (this.current.kind !== kind) this.unexpected(KINDS[kind])
    return this.next()
  }

  expectName(name: string): void {
    if (!this.skipName(name)) this.unexpected(`'${name}'`)
  }

  expectOperator(operator: string): void {
    if (!this.skipOperator(operator)) this.unexpected(`'${operator}'`)
  }

  unexpected(wanted?: string): never {
    this.fail(`unexpected ${describe(this.current)}${wanted === undefined ? '' : `, expected ${wanted}`}`)
  }

  fail(message: string, line = this.line): never {
    throw new SyntaxFailure(message, line)
  }
}

const KINDS: Record<TokenKind, string> = {
  data: 'text',
  begin: "'{%'",
  end: "'%}'",
  print: "'{{'",
  printed: "'}}'",
  name: 'a name',
  string: 'a string',
  integer: 'a number',
  float: 'a number',
  operator: 'an operator',
  eof: 'end of the template',
}

function describe({ kind, value }: Token): string {
  if (kind === 'string') return JSON.stringify(value)
  return value === '' || kind === 'data' ? KINDS[kind] : `'${value}'`
}
