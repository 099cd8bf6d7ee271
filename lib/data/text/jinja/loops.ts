import { expression } from './evaluate.js'
import { typeError } from './failure.js'
import { Iter, iterate, lengthOf } from './iteration.js'
import { isTrue } from './kinds.js'
import { called, charge } from './limits.js'
import type { For } from './nodes.js'
import { equal } from './operators.js'
import { Frame } from './runtime.js'
import {
  assigner,
  type CompileBody,
  type Evaluate,
  entering,
  fail,
  leaving,
  type Place,
  type Run,
  write,
} from './scopes.js'
import { FunctionScope, Symbols, setsLoop, undeclared } from './symbols.js'
import { type Str, TextBuilder } from './text.js'
import { Callable, type Cursor, Tuple, Undefined, type Value } from './values.js'

/** The variable `loop`. */
export class Loop extends Callable implements Cursor {
  override readonly typeName = 'LoopContext'
  readonly #of: Value
  readonly #depth: number
  #cursor: Cursor
  #index = -1
  #length: number | null = null
  #after: Value | undefined
  #current: Value | undefined
  #before: Value | undefined
  #changed: Tuple | null = null

  constructor(
    of: Value,
    cursor: Cursor,
    depth: number,
    recurse: ((of: Value, depth: number) => Value) | null,
  ) {
    super('loop', (args) => {
      if (recurse === null)
        throw typeError("the loop must have the 'recursive' marker to be called recursively")
      if (args.length !== 1) throw typeError('a loop is called with one iterable')
      return recurse(args[0]!, depth + 1)
    })
    this.#of = of
    this.#cursor = cursor
    this.#depth = depth
  }

  next(): Value | undefined {
    const value = this.#after === undefined ? this.#cursor.next() : this.#after
    this.#after = undefined
    if (value === undefined) return undefined
    this.#index++
    this.#before = this.#current
    this.#current = value
    return value
  }

  get #size(): number {
    if (this.#length === null) this.#length = lengthOf(this.#of)
    if (this.#length === null) {
      const rest: Value[] = []
      for (let next = this.#cursor.next(); next !== undefined; next = this.#cursor.next()) rest.push(next)
      this.#length = rest.length + this.#index + 1 + (this.#after === undefined ? 0 : 1)
      let at = 0
      this.#cursor = { next: () => rest[at++] }
    }
    return this.#length
  }

  get #next(): Value | undefined {
    if (this.#after === undefined) this.#after = this.#cursor.next()
    return this.#after
  }

  /** A loop in a loop goes through the rest of its items. */
  override get cursor(): Cursor {
    return {
      next: () => {
        const value = this.next()
        return value === undefined ? undefined : new Tuple([value, this])
      },
    }
  }

  override spelled(): Str {
    return `<LoopContext ${this.#index + 1}/${this.#size}>`
  }

  override attribute(name: string): Value | undefined {
    switch (name) {
      case 'index':
        return this.#index + 1
      case 'index0':
        return this.#index
      case 'first':
        return this.#index === 0
      case 'last':
        return this.#next === undefined
      case 'length':
        return this.#size
      case 'revindex':
        return this.#size - this.#index
      case 'revindex0':
        return this.#size - this.#index - 1
      case 'depth':
        return this.#depth + 1
      case 'depth0':
        return this.#depth
      case 'previtem':
        if (this.#index === 0) return new Undefined(() => 'there is no previous item')
        return this.#before
      case 'nextitem':
        return this.#next === undefined ? new Undefined(() => 'there is no next item') : this.#next
      case 'cycle':
        return new Callable('cycle', (args) => {
          if (args.length === 0) throw typeError('no items for cycling given')
          return args[this.#index % args.length]!
        })
      case 'changed':
        return new Callable('changed', (args) => {
          const value = new Tuple([...args])
          if (this.#changed !== null && equal(this.#changed, value)) return false
          this.#changed = value
          return true
        })
    }
    return undefined
  }
}

interface Parts {
  cursor(frame: Frame, over: Value): { of: Value; cursor: Cursor }
  assign(frame: Frame, value: Value): void
  body: Run
  enter(frame: Frame): void
  leave(frame: Frame): void
  /** Index of the variable `loop`; -1 where the body does not use it. */
  loop: number
  otherwise: Run | null
}

export function compileFor(node: For, place: Place, compileBody: CompileBody): Run {
  if (setsLoop(node)) fail("the variable 'loop' cannot be set in a loop", node)
  const scope = node.recursive ? new FunctionScope(place.symbols.scope) : place.symbols.scope
  const over = expression(node.over, place)
  const parts = compileParts(node, place, scope, compileBody)
  const { line } = node
  if (!node.recursive) {
    return (frame) => {
      charge(2)
      frame.runtime.line = line
      return runLoop(parts, frame, over(frame), 0, null)
    }
  }
  return (frame) => {
    charge(2)
    frame.runtime.line = line
    const recurse = (of: Value, depth: number): Value =>
      called(() => {
        const out = new TextBuilder()
        const own = new Frame(frame.runtime, frame, scope.size, out)
        runLoop(parts, own, of, depth, recurse)
        return out.finish()
      })
    write(frame.out, recurse(over(frame), 0) as Str)
    return 0
  }
}

function compileParts(node: For, place: Place, scope: FunctionScope, compileBody: CompileBody): Parts {
  const symbols = new Symbols(scope, place.symbols)
  const usesLoop = node.recursive || undeclared(node.body, ['loop']).has('loop')
  const loop = usesLoop ? symbols.declare('loop').index : -1
  symbols.visitTarget(node.target)
  symbols.visitAll(node.body)
  const within: Place = { symbols, toplevel: false, soft: false, loop: true }
  return {
    cursor: compileTest(node, place, scope),
    assign: assigner(node.target, within),
    body: compileBody(node.body, within),
    enter: entering(symbols),
    leave: leaving(symbols),
    loop,
    otherwise: compileElse(node, place, scope, compileBody),
  }
}

/** The items of the loop, without those that its `if` leaves out. */
function compileTest(node: For, place: Place, scope: FunctionScope): Parts['cursor'] {
  if (node.test === null) return (_frame, over) => ({ of: over, cursor: iterate(over) })
  const symbols = new Symbols(scope, place.symbols)
  symbols.visitTarget(node.target)
  symbols.visit(node.test)
  const within: Place = { symbols, toplevel: false, soft: false, loop: false }
  const assign = assigner(node.target, within)
  const enter = entering(symbols)
  const test: Evaluate = expression(node.test, within)
  return (frame, over) => {
    const items = iterate(over)
    enter(frame)
    const passing = new Iter(() => {
      for (let next = items.next(); next !== undefined; next = items.next()) {
        charge(2)
        assign(frame, next)
        if (isTrue(test(frame))) return next
      }
      return undefined
    })
    return { of: passing, cursor: passing }
  }
}

function compileElse(node: For, place: Place, scope: FunctionScope, compileBody: CompileBody): Run | null {
  if (node.otherwise.length === 0) return null
  const symbols = new Symbols(scope, place.symbols)
  symbols.visitAll(node.otherwise)
  const enter = entering(symbols)
  // `break` in the else of a recursive loop has no loop around it in its function.
  const run = compileBody(node.otherwise, {
    symbols,
    toplevel: false,
    soft: false,
    loop: place.loop && !node.recursive,
  })
  return (frame) => {
    enter(frame)
    return run(frame)
  }
}

function runLoop(
  parts: Parts,
  frame: Frame,
  over: Value,
  depth: number,
  recurse: ((of: Value, depth: number) => Value) | null,
): 0 | 1 | 2 {
  const { of, cursor } = parts.cursor(frame, over)
  const loop = parts.loop >= 0 ? new Loop(of, cursor, depth, recurse) : null
  const items = loop ?? cursor
  let empty = true
  for (let next = items.next(); next !== undefined; next = items.next()) {
    charge(2)
    if (loop !== null) frame.slots[parts.loop] = loop
    parts.assign(frame, next)
    parts.enter(frame)
    // As in Jinja2, a round that is left by break or continue does not count.
    const jump = parts.body(frame)
    if (jump === 1) break
    if (jump === 0) empty = false
  }
  parts.leave(frame)
  return empty && parts.otherwise !== null ? parts.otherwise(frame) : 0
}
