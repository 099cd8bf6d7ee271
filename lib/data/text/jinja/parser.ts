import { ExpressionParser } from './expressions.js'
import { SyntaxFailure } from './failure.js'
import { tokenize } from './lexer.js'
import { MAX_DEPTH, MAX_TREE_DEPTH } from './limits.js'
import {
  type Block,
  childrenOf,
  type Expression,
  type If,
  type Name,
  type Node,
  type Statement,
} from './nodes.js'
import { Tokens } from './tokens.js'

/** Parses a template; throws SyntaxFailure. */
export function parse(source: string): Statement[] {
  const body = new Parser(source).parse()
  checkDepth(body)
  return body
}

/** Bounds the recursion of everything that walks the nodes: chains of operators nest too. */
function checkDepth(body: readonly Node[]): void {
  const open = body.map((node) => ({ node, depth: 1 }))
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    const { node, depth } = at
    if (depth > MAX_TREE_DEPTH) {
      throw new SyntaxFailure(
        `more than ${MAX_TREE_DEPTH} operators and blocks are inside each other`,
        node.line,
      )
    }
    for (const child of childrenOf(node)) open.push({ node: child, depth: depth + 1 })
  }
}

class Parser {
  readonly #tokens: Tokens
  readonly #expressions: ExpressionParser
  readonly #blocks = new Set<string>()
  #depth = 0

  constructor(source: string) {
    this.#tokens = new Tokens(tokenize(source))
    this.#expressions = new ExpressionParser(this.#tokens)
  }

  parse(): Statement[] {
    return this.#statements([])
  }

  /** Statements up to one of the end tags, whose name is the next token; up to the end of the template without any. */
  #statements(ends: readonly string[]): Statement[] {
    const tokens = this.#tokens
    if (++this.#depth > MAX_DEPTH) tokens.fail(`more than ${MAX_DEPTH} blocks are inside each other`)
    const { line } = tokens
    const body: Statement[] = []
    let output: { type: 'output'; parts: (string | Expression)[]; line: number } | null = null
    const add = (part: string | Expression, at: number) => {
      if (output === null) {
        output = { type: 'output', parts: [], line: at }
        body.push(output)
      }
      output.parts.push(part)
    }
    while (!tokens.is('eof')) {
      const token = tokens.next()
      if (token.kind === 'data') add(token.value, token.line)
      else if (token.kind === 'print') {
        add(this.#expressions.tuple(), token.line)
        tokens.expect('printed')
      } else {
        output = null
        if (tokens.is('name') && ends.includes(tokens.current.value)) {
          this.#depth--
          return body
        }
        const statement = this.#statement(ends)
        if (statement !== null) body.push(statement)
        tokens.expect('end')
      }
    }
    if (ends.length > 0) tokens.fail(`the block has no end: expected ${ends.join(' or ')}`, line)
    this.#depth--
    return body
  }

  /** Body of a block up to one of its end tags. */
  #body(...ends: string[]): Statement[] {
    this.#tokens.skipOperator(':')
    this.#tokens.expect('end')
    return this.#statements(ends)
  }

  /** Body of a block with one end tag, which it reads too. */
  #whole(end: string): Statement[] {
    const body = this.#body(end)
    this.#tokens.next()
    return body
  }

  #statement(ends: readonly string[]): Statement | null {
    const tokens = this.#tokens
    const { line } = tokens
    const tag = tokens.expect('name').value
    switch (tag) {
      case 'for':
        return this.#for(line)
      case 'if':
        return this.#if(line)
      case 'set':
        return this.#set(line)
      case 'macro':
        return this.#macro(line)
      case 'call':
        return this.#call(line)
      case 'filter': {
        const filter = this.#expressions.blockFilters(true)!
        return { type: 'filterblock', filter, body: this.#whole('endfilter'), line }
      }
      case 'with':
        return this.#with(line)
      case 'generation':
        return { type: 'generation', body: this.#whole('endgeneration'), line }
      case 'block':
        return this.#block(line)
      case 'print':
        return this.#print(line)
      case 'break':
      case 'continue':
        return { type: tag, line }
      case 'autoescape':
        return this.#autoescape(line)
      case 'include':
      case 'import':
      case 'from':
      case 'extends':
        return tokens.fail(`'${tag}' is refused: a chat template is one file`, line)
      default:
        return tokens.fail(
          `unknown tag '${tag}'${ends.length > 0 ? `, expected ${ends.join(' or ')}` : ''}`,
          line,
        )
    }
  }

  #for(line: number): Statement {
    const tokens = this.#tokens
    const target = this.#expressions.target({ end: 'in' })
    tokens.expectName('in')
    const over = this.#expressions.tuple({ conditional: false, end: 'recursive' })
    const test = tokens.skipName('if') ? this.#expressions.expression() : null
    const recursive = tokens.skipName('recursive')
    const body = this.#body('endfor', 'else')
    const otherwise = tokens.next().value === 'else' ? this.#whole('endfor') : []
    return { type: 'for', target, over, test, recursive, body, otherwise, line }
  }

  #if(line: number): Statement {
    const tokens = this.#tokens
    const branch = (at: number): If => ({
      type: 'if',
      test: this.#expressions.tuple({ conditional: false }),
      body: this.#body('elif', 'else', 'endif'),
      others: [],
      otherwise: [],
      line: at,
    })
    const first = branch(line)
    while (true) {
      const token = tokens.next()
      if (token.value === 'elif') first.others.push(branch(token.line))
      else {
        if (token.value === 'else') first.otherwise = this.#whole('endif')
        return first
      }
    }
  }

  #set(line: number): Statement {
    const target = this.#expressions.target({ namespace: true })
    if (this.#tokens.skipOperator('=')) return { type: 'set', target, value: this.#expressions.tuple(), line }
    const filter = this.#expressions.blockFilters(false)
    return { type: 'setblock', target, filter, body: this.#whole('endset'), line }
  }

  #signature(): { params: Name[]; defaults: Expression[] } {
    const tokens = this.#tokens
    const params: Name[] = []
    const defaults: Expression[] = []
    tokens.expectOperator('(')
    while (!tokens.isOperator(')')) {
      if (params.length > 0) tokens.expectOperator(',')
      const param = this.#expressions.name('param')
      if (params.some(({ name }) => name === param.name))
        tokens.fail(`the parameter '${param.name}' is repeated`)
      params.push(param)
      if (tokens.skipOperator('=')) defaults.push(this.#expressions.expression())
      else if (defaults.length > 0) tokens.fail('a parameter without a default follows one with a default')
    }
    tokens.expectOperator(')')
    return { params, defaults }
  }

  #macro(line: number): Statement {
    const { name } = this.#expressions.name('store')
    const signature = this.#signature()
    return { type: 'macro', name, ...signature, body: this.#whole('endmacro'), line }
  }

  #call(line: number): Statement {
    const signature = this.#tokens.isOperator('(') ? this.#signature() : { params: [], defaults: [] }
    const call = this.#expressions.expression()
    if (call.type !== 'call') this.#tokens.fail("a 'call' block needs a call", line)
    return { type: 'callblock', ...signature, call, body: this.#whole('endcall'), line }
  }

  #with(line: number): Statement {
    const tokens = this.#tokens
    const targets: Expression[] = []
    const values: Expression[] = []
    while (!tokens.is('end')) {
      if (targets.length > 0) tokens.expectOperator(',')
      targets.push(asParameters(this.#expressions.target()))
      tokens.expectOperator('=')
      values.push(this.#expressions.expression())
    }
    return { type: 'with', targets, values, body: this.#whole('endwith'), line }
  }

  #block(line: number): Block {
    const tokens = this.#tokens
    const name = tokens.expect('name').value
    if (this.#blocks.has(name)) tokens.fail(`the block '${name}' is repeated`, line)
    this.#blocks.add(name)
    const scoped = tokens.skipName('scoped')
    if (tokens.skipName('required'))
      tokens.fail(`the block '${name}' is required, but nothing fills it`, line)
    const body = this.#whole('endblock')
    tokens.skipName(name)
    return { type: 'block', name, scoped, body, line }
  }

  #print(line: number): Statement {
    const parts: Expression[] = []
    while (!this.#tokens.is('end')) {
      if (parts.length > 0) this.#tokens.expectOperator(',')
      parts.push(this.#expressions.expression())
    }
    return { type: 'output', parts, line }
  }

  #autoescape(line: number): Statement {
    const on = this.#expressions.expression()
    if (on.type !== 'const' || on.value !== false)
      this.#tokens.fail("'autoescape' is refused: chats are not HTML", line)
    return { type: 'scope', body: this.#whole('endautoescape'), line }
  }
}

/** Marks the names of a target as assigned from outside. */
function asParameters(target: Expression): Expression {
  if (target.type === 'name') target.use = 'param'
  else if (target.type === 'tuple') target.items.forEach(asParameters)
  return target
}
