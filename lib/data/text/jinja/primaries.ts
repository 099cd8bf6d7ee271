import { MAX_DEPTH } from './limits.js'
import type { Arguments, Expression, FilterNode, Keyword, Slice } from './nodes.js'
import type { Tokens } from './tokens.js'

export const CONSTANTS: Record<string, boolean | null> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
}

/** Parses what operators work on: names, literals, calls, subscripts, filters and tests. */
export abstract class PrimaryParser {
  readonly tokens: Tokens
  #depth = 0

  constructor(tokens: Tokens) {
    this.tokens = tokens
  }

  abstract expression(conditional?: boolean): Expression

  abstract tuple(options?: { parentheses?: boolean }): Expression

  /** Bounds the recursion of the parser. */
  protected nested<T>(parse: () => T): T {
    if (++this.#depth > MAX_DEPTH)
      this.tokens.fail(`more than ${MAX_DEPTH} expressions are inside each other`)
    const parsed = parse()
    this.#depth--
    return parsed
  }

  protected primary(namespace = false): Expression {
    const { tokens } = this
    const { line, current } = tokens
    if (current.kind === 'name') {
      tokens.next()
      const constant = CONSTANTS[current.value]
      if (Object.hasOwn(CONSTANTS, current.value)) return { type: 'const', value: constant!, line }
      if (namespace && tokens.skipOperator('.')) {
        return { type: 'nsref', name: current.value, attribute: tokens.expect('name').value, line }
      }
      return { type: 'name', name: current.value, use: 'load', line }
    }
    if (current.kind === 'string') {
      let value = ''
      while (tokens.is('string')) value += tokens.next().value
      return { type: 'const', value, line }
    }
    if (current.kind === 'integer' || current.kind === 'float') {
      tokens.next()
      return { type: 'number', digits: current.value, float: current.kind === 'float', line }
    }
    if (tokens.skipOperator('(')) {
      const parsed = this.tuple({ parentheses: true })
      tokens.expectOperator(')')
      return parsed
    }
    if (tokens.skipOperator('['))
      return { type: 'list', items: this.#until(']', () => this.expression()), line }
    if (tokens.skipOperator('{')) return this.#dict(line)
    return tokens.unexpected()
  }

  #until<T>(end: string, parse: () => T): T[] {
    const items: T[] = []
    while (!this.tokens.isOperator(end)) {
      if (items.length > 0) this.tokens.expectOperator(',')
      if (this.tokens.isOperator(end)) break
      items.push(parse())
    }
    this.tokens.expectOperator(end)
    return items
  }

  #dict(line: number): Expression {
    const pairs = this.#until('}', () => {
      const key = this.expression()
      this.tokens.expectOperator(':')
      return { key, value: this.expression() }
    })
    return {
      type: 'dict',
      keys: pairs.map(({ key }) => key),
      values: pairs.map(({ value }) => value),
      line,
    }
  }

  protected postfix(of: Expression): Expression {
    const { tokens } = this
    let parsed = of
    while (true) {
      const { line } = tokens
      if (tokens.skipOperator('.')) {
        if (tokens.is('name')) parsed = { type: 'attribute', of: parsed, name: tokens.next().value, line }
        else {
          const digits = tokens.expect('integer').value
          parsed = { type: 'item', of: parsed, index: { type: 'number', digits, float: false, line }, line }
        }
      } else if (tokens.skipOperator('['))
        parsed = { type: 'item', of: parsed, index: this.#subscript(line), line }
      else if (tokens.isOperator('(')) parsed = { type: 'call', callee: parsed, ...this.arguments(), line }
      else return parsed
    }
  }

  #subscript(line: number): Expression {
    const items = this.#until(']', () => this.#subscribed())
    return items.length === 1 ? items[0]! : { type: 'tuple', items, line }
  }

  #subscribed(): Expression {
    const { tokens } = this
    const { line } = tokens
    const ends = () => tokens.isOperator(':') || tokens.isOperator(']') || tokens.isOperator(',')
    const bounds: Slice['bounds'] = [null, null, null]
    if (!tokens.isOperator(':')) {
      const first = this.expression()
      if (!tokens.isOperator(':')) return first
      bounds[0] = first
    }
    for (let i = 1; i < 3 && tokens.skipOperator(':'); i++) if (!ends()) bounds[i] = this.expression()
    return { type: 'slice', bounds, line }
  }

  protected filters(of: Expression): Expression {
    const { tokens } = this
    let parsed = of
    while (true) {
      const { line } = tokens
      if (tokens.skipOperator('|')) parsed = this.#filter(parsed, line)
      else if (tokens.isName('is')) parsed = this.#test(parsed)
      else if (tokens.isOperator('(')) parsed = { type: 'call', callee: parsed, ...this.arguments(), line }
      else return parsed
    }
  }

  /** Filters of a block; `begun`: the first has no bar before it. */
  blockFilters(begun: boolean): FilterNode | null {
    let parsed: FilterNode | null = null
    for (let first = begun; first || this.tokens.skipOperator('|'); first = false) {
      parsed = this.#filter(parsed, this.tokens.line)
    }
    return parsed
  }

  #filter(operand: Expression | null, line: number): FilterNode {
    const name = this.#dotted()
    const given = this.tokens.isOperator('(') ? this.arguments() : NO_ARGUMENTS
    return { type: 'filter', name, operand, ...given, line }
  }

  #dotted(): string {
    let name = this.tokens.expect('name').value
    while (this.tokens.skipOperator('.')) name += `.${this.tokens.expect('name').value}`
    return name
  }

  #test(operand: Expression): Expression {
    const { tokens } = this
    const { line } = tokens.next()
    const negated = tokens.skipName('not')
    const name = this.#dotted()
    let given = NO_ARGUMENTS
    const { kind, value } = tokens.current
    if (tokens.isOperator('(')) given = this.arguments()
    else if (
      kind === 'string' ||
      kind === 'integer' ||
      kind === 'float' ||
      (kind === 'operator' && '[{'.includes(value)) ||
      (kind === 'name' && value !== 'else' && value !== 'or' && value !== 'and')
    ) {
      if (tokens.isName('is')) tokens.fail("tests cannot be chained with 'is'")
      given = { ...NO_ARGUMENTS, args: [this.postfix(this.primary())] }
    }
    const parsed: Expression = { type: 'test', name, operand, ...given, line }
    return negated ? { type: 'unary', operator: 'not', operand: parsed, line } : parsed
  }

  arguments(): Arguments {
    const { tokens } = this
    const args: Expression[] = []
    const keywords: Keyword[] = []
    const names = new Set<string>()
    let rest: Expression | null = null
    let restKeywords: Expression | null = null
    const check = (valid: boolean) => {
      if (!valid) tokens.fail('the arguments of a call are in a wrong order')
    }
    tokens.expectOperator('(')
    this.#until(')', () => {
      const { line } = tokens
      if (tokens.skipOperator('*')) {
        check(rest === null && restKeywords === null)
        rest = this.expression()
      } else if (tokens.skipOperator('**')) {
        check(restKeywords === null)
        restKeywords = this.expression()
      } else if (
        tokens.is('name') &&
        tokens.following.kind === 'operator' &&
        tokens.following.value === '='
      ) {
        check(restKeywords === null)
        const name = tokens.next().value
        tokens.next()
        if (names.has(name)) tokens.fail(`the argument '${name}' is repeated`)
        names.add(name)
        keywords.push({ type: 'keyword', name, value: this.expression(), line })
      } else {
        check(rest === null && restKeywords === null && keywords.length === 0)
        args.push(this.expression())
      }
    })
    return { args, keywords, rest, restKeywords }
  }
}

const NO_ARGUMENTS: Arguments = { args: [], keywords: [], rest: null, restKeywords: null }
