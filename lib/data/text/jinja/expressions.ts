import type { Expression, Name } from './nodes.js'
import { CONSTANTS, PrimaryParser } from './primaries.js'

const COMPARISONS = ['==', '!=', '<', '<=', '>', '>=']

/** Parses the expressions of a template, with Jinja2's precedence of operators. */
export class ExpressionParser extends PrimaryParser {
  expression(conditional = true): Expression {
    return this.nested(() => (conditional ? this.#conditional() : this.#or()))
  }

  /** An expression, or a tuple of several without parentheses. */
  tuple(options: { conditional?: boolean; end?: string; parentheses?: boolean } = {}): Expression {
    return this.#items(() => this.expression(options.conditional ?? true), options)
  }

  /** A name, a tuple of names, or `namespace.attribute`, to assign to. */
  target(options: { end?: string; namespace?: boolean } = {}): Expression {
    const { line } = this.tokens
    const parsed = this.#items(() => this.primary(options.namespace), options)
    this.#store(parsed, line)
    return parsed
  }

  name(use: Name['use']): Name {
    const { line } = this.tokens
    const name = this.tokens.expect('name').value
    if (Object.hasOwn(CONSTANTS, name)) this.tokens.fail(`'${name}' cannot be assigned`, line)
    return { type: 'name', name, use, line }
  }

  #store(target: Expression, line: number): void {
    if (target.type === 'name') target.use = 'store'
    else if (target.type === 'tuple') for (const item of target.items) this.#store(item, line)
    else if (target.type !== 'nsref') this.tokens.fail('only names can be assigned', line)
  }

  #items(parse: () => Expression, options: { end?: string; parentheses?: boolean }): Expression {
    const { tokens } = this
    const { line } = tokens
    const items: Expression[] = []
    let several = false
    while (!this.#tupleEnds(options.end)) {
      items.push(parse())
      if (!tokens.skipOperator(',')) break
      several = true
    }
    if (!several && items.length > 0) return items[0]!
    if (items.length === 0 && !options.parentheses) tokens.unexpected('an expression')
    return { type: 'tuple', items, line }
  }

  #tupleEnds(end: string | undefined): boolean {
    const { tokens } = this
    if (tokens.is('printed') || tokens.is('end') || tokens.isOperator(')')) return true
    return end !== undefined && tokens.isName(end)
  }

  #conditional(): Expression {
    const { tokens } = this
    const { line } = tokens
    let parsed = this.#or()
    while (tokens.skipName('if')) {
      const test = this.#or()
      const otherwise = tokens.skipName('else') ? this.expression() : null
      parsed = { type: 'conditional', test, value: parsed, otherwise, line }
    }
    return parsed
  }

  #or(): Expression {
    const { line } = this.tokens
    let left = this.#and()
    while (this.tokens.skipName('or')) {
      left = { type: 'binary', operator: 'or', left, right: this.#and(), line }
    }
    return left
  }

  #and(): Expression {
    const { line } = this.tokens
    let left = this.#not()
    while (this.tokens.skipName('and')) {
      left = { type: 'binary', operator: 'and', left, right: this.#not(), line }
    }
    return left
  }

  #not(): Expression {
    const { line } = this.tokens
    if (!this.tokens.skipName('not')) return this.#compare()
    const operand = this.nested(() => this.#not())
    return { type: 'unary', operator: 'not', operand, line }
  }

  #compare(): Expression {
    const { tokens } = this
    const { line } = tokens
    const first = this.#sum()
    const operators: string[] = []
    const others: Expression[] = []
    while (true) {
      const { kind, value } = tokens.current
      if (kind === 'operator' && COMPARISONS.includes(value)) {
        tokens.next()
        operators.push(value)
      } else if (tokens.skipName('in')) operators.push('in')
      else if (tokens.isName('not') && tokens.following.kind === 'name' && tokens.following.value === 'in') {
        tokens.next()
        tokens.next()
        operators.push('not in')
      } else break
      others.push(this.#sum())
    }
    return operators.length === 0 ? first : { type: 'compare', first, operators, others, line }
  }

  #binary(operators: readonly string[], operand: () => Expression): Expression {
    const { tokens } = this
    const { line } = tokens
    let left = operand()
    while (tokens.is('operator') && operators.includes(tokens.current.value)) {
      const operator = tokens.next().value
      left = { type: 'binary', operator, left, right: operand(), line }
    }
    return left
  }

  #sum(): Expression {
    return this.#binary(['+', '-'], () => this.#concat())
  }

  #concat(): Expression {
    const { line } = this.tokens
    const items = [this.#product()]
    while (this.tokens.skipOperator('~')) items.push(this.#product())
    return items.length === 1 ? items[0]! : { type: 'concat', items, line }
  }

  #product(): Expression {
    return this.#binary(['*', '/', '//', '%'], () => this.#power())
  }

  #power(): Expression {
    return this.#binary(['**'], () => this.#unary(true))
  }

  #unary(filters: boolean): Expression {
    const { tokens } = this
    const { line } = tokens
    let parsed: Expression
    if (tokens.isOperator('-') || tokens.isOperator('+')) {
      const operator = tokens.next().value as '-' | '+'
      parsed = { type: 'unary', operator, operand: this.nested(() => this.#unary(false)), line }
    } else parsed = this.primary()
    parsed = this.postfix(parsed)
    return filters ? this.filters(parsed) : parsed
  }
}
