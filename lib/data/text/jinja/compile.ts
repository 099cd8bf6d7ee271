import { expression, filter } from './evaluate.js'
import { isTrue, stringOf } from './kinds.js'
import { charge } from './limits.js'
import { compileFor } from './loops.js'
import { compileCallBlock, compileMacro } from './macros.js'
import type * as Nodes from './nodes.js'
import { descendants, type Statement } from './nodes.js'
import { Frame, type Runtime } from './runtime.js'
import { assigner, entering, fail, leaving, type Place, type Run, write } from './scopes.js'
import { str } from './spelling.js'
import { FunctionScope, Symbols } from './symbols.js'
import { type Str, TextBuilder } from './text.js'
import type { Value } from './values.js'

/** A compiled template. */
export interface Program {
  run(runtime: Runtime): void
  readonly marksGeneration: boolean
}

export function compile(body: readonly Statement[]): Program {
  const run = compileFunction(body, true)
  return {
    run: (runtime) => run(runtime, runtime.output),
    marksGeneration: body.some((node) => [...descendants(node)].some(({ type }) => type === 'generation')),
  }
}

/** The template, or a block of it, as a function of its own. */
function compileFunction(
  body: readonly Statement[],
  toplevel: boolean,
): (runtime: Runtime, out: TextBuilder) => void {
  const scope = new FunctionScope(null)
  const symbols = new Symbols(scope, null)
  symbols.visitAll(body)
  const enter = entering(symbols)
  const run = compileBody(body, { symbols, toplevel, soft: false, loop: false })
  return (runtime, out) => {
    const frame = new Frame(runtime, null, scope.size, out)
    enter(frame)
    run(frame)
  }
}

export function compileBody(body: readonly Statement[], place: Place): Run {
  const runs = body.map((node) => compileStatement(node, place))
  if (runs.length === 1) return runs[0]!
  return (frame) => {
    for (let i = 0; i < runs.length; i++) {
      const jump = runs[i]!(frame)
      if (jump !== 0) return jump
    }
    return 0
  }
}

function compileStatement(node: Statement, place: Place): Run {
  switch (node.type) {
    case 'output':
      return compileOutput(node, place)
    case 'if':
      return compileIf(node, place)
    case 'for':
      return compileFor(node, place, compileBody)
    case 'set': {
      const value = expression(node.value, place)
      const assign = assigner(node.target, place)
      return (frame) => {
        charge(2)
        frame.runtime.line = node.line
        assign(frame, value(frame))
        return 0
      }
    }
    case 'setblock':
      return compileSetBlock(node, place)
    case 'macro':
      return compileMacro(node, place, compileBody)
    case 'callblock':
      return compileCallBlock(node, place, compileBody)
    case 'generation':
      return compileGeneration(node, place)
    case 'filterblock':
      return compileFilterBlock(node, place)
    case 'with':
      return compileWith(node, place)
    case 'scope': {
      const symbols = new Symbols(place.symbols.scope, place.symbols)
      symbols.visitAll(node.body)
      return framed(symbols, compileBody(node.body, inner(place, symbols)))
    }
    case 'block': {
      const run = compileFunction(node.body, false)
      return (frame) => {
        run(frame.runtime, frame.out)
        return 0
      }
    }
    case 'break':
    case 'continue': {
      if (!place.loop) fail(`'${node.type}' outside of a loop`, node)
      const jump = node.type === 'break' ? 1 : 2
      return () => jump
    }
  }
}

/** A frame inside a place of the same function. */
export function inner(place: Place, symbols: Symbols): Place {
  return { symbols, toplevel: false, soft: false, loop: place.loop }
}

function framed(symbols: Symbols, run: Run): Run {
  const enter = entering(symbols)
  const leave = leaving(symbols)
  return (frame) => {
    enter(frame)
    const jump = run(frame)
    leave(frame)
    return jump
  }
}

function compileOutput(node: Nodes.Output, place: Place): Run {
  const { line } = node
  const parts = node.parts.map((part) => (typeof part === 'string' ? part : expression(part, place)))
  return (frame) => {
    charge(2 * parts.length)
    frame.runtime.line = line
    for (const part of parts) {
      if (typeof part === 'string') {
        charge(part.length / 64)
        frame.out.addAs(part, null)
      } else write(frame.out, str(part(frame)))
    }
    return 0
  }
}

function compileIf(node: Nodes.If, place: Place): Run {
  const soft = { ...place, soft: true }
  const branches = [node, ...node.others].map(({ test, body, line }) => ({
    test: expression(test, soft),
    run: compileBody(body, soft),
    line,
  }))
  const otherwise = compileBody(node.otherwise, soft)
  return (frame) => {
    for (let i = 0; i < branches.length; i++) {
      const { test, run, line } = branches[i]!
      charge(1)
      frame.runtime.line = line
      if (isTrue(test(frame))) return run(frame)
    }
    return otherwise(frame)
  }
}

/** Runs statements that write into a text of their own; null where they leave a loop around. */
function captured(frame: Frame, run: Run): { jump: 0 | 1 | 2; text: Str } {
  const { out } = frame
  const own = new TextBuilder()
  frame.out = own
  const jump = run(frame)
  frame.out = out
  return { jump, text: own.finish() }
}

function compileSetBlock(node: Nodes.SetBlock, place: Place): Run {
  const symbols = new Symbols(place.symbols.scope, place.symbols)
  symbols.visitAll(node.body)
  if (node.filter !== null) symbols.visit(node.filter)
  const within = inner(place, symbols)
  const enter = entering(symbols)
  const leave = leaving(symbols)
  const run = compileBody(node.body, within)
  const assign = assigner(node.target, place)
  const text: { current: Value } = { current: '' }
  const apply = node.filter === null ? null : filter(node.filter, within, () => text.current)
  return (frame) => {
    charge(1)
    enter(frame)
    const { jump, text: own } = captured(frame, run)
    if (jump === 0) {
      frame.runtime.line = node.line
      text.current = own
      assign(frame, apply === null ? own : apply(frame))
    }
    leave(frame)
    return jump
  }
}

function compileFilterBlock(node: Nodes.FilterBlock, place: Place): Run {
  const symbols = new Symbols(place.symbols.scope, place.symbols)
  symbols.visitAll(node.body)
  symbols.visit(node.filter)
  const within = inner(place, symbols)
  const run = compileBody(node.body, within)
  const text: { current: Value } = { current: '' }
  const apply = filter(node.filter, within, () => text.current)
  return framed(symbols, (frame) => {
    charge(1)
    const { jump, text: own } = captured(frame, run)
    if (jump === 0) {
      frame.runtime.line = node.line
      text.current = own
      write(frame.out, stringOf(apply(frame), 'the text of a filter block'))
    }
    return jump
  })
}

function compileWith(node: Nodes.With, place: Place): Run {
  const symbols = new Symbols(place.symbols.scope, place.symbols)
  symbols.visitAll(node.targets)
  symbols.visitAll(node.body)
  const within = inner(place, symbols)
  const values = node.values.map((value) => expression(value, place))
  const assigns = node.targets.map((target) => assigner(target, within))
  const run = compileBody(node.body, within)
  return framed(symbols, (frame) => {
    charge(1)
    frame.runtime.line = node.line
    for (let i = 0; i < values.length; i++) assigns[i]!(frame, values[i]!(frame))
    return run(frame)
  })
}

/** A `{% generation %}` block is a function: what it sets stays inside, and a loop around is not left from it. */
function compileGeneration(node: Nodes.Generation, place: Place): Run {
  const scope = new FunctionScope(place.symbols.scope)
  const symbols = new Symbols(scope, place.symbols)
  symbols.visitAll(node.body)
  const enter = entering(symbols)
  const run = compileBody(node.body, { symbols, toplevel: false, soft: false, loop: false })
  return (frame) => {
    const { runtime } = frame
    const direct = frame.out === runtime.output
    const out = direct ? frame.out : new TextBuilder()
    const from = out.text.length
    const own = new Frame(runtime, frame, scope.size, out)
    enter(own)
    run(own)
    if (direct) runtime.generation.push({ from, to: out.text.length })
    else write(frame.out, runtime.generated(out.finish()))
    return 0
  }
}
