import { calling, expression } from './evaluate.js'
import { typeError } from './failure.js'
import { stringOf } from './kinds.js'
import { called, charge } from './limits.js'
import type { CallBlock, MacroNode } from './nodes.js'
import { Frame } from './runtime.js'
import { type CompileBody, type Evaluate, entering, fail, type Place, type Run, write } from './scopes.js'
import { FunctionScope, Symbols, undeclared } from './symbols.js'
import { type Str, TextBuilder } from './text.js'
import { Callable, Dict, type Keywords, Tuple, Undefined, type Value } from './values.js'

/** A macro, or the body of a call block. */
export class Macro extends Callable {
  override readonly typeName = 'Macro'

  readonly parameters: readonly string[]
  readonly catches: { readonly keywords: boolean; readonly varargs: boolean; readonly caller: boolean }

  constructor(
    name: string,
    parameters: readonly string[],
    catches: { readonly keywords: boolean; readonly varargs: boolean; readonly caller: boolean },
    run: (args: readonly Value[], keywords: Keywords | null) => Value,
  ) {
    super(name, run)
    this.parameters = parameters
    this.catches = catches
  }

  override spelled(): Str {
    return `<Macro ${this.name === 'caller' ? 'anonymous' : `'${this.name}'`}>`
  }

  override attribute(name: string): Value | undefined {
    switch (name) {
      case 'name':
        return this.name
      case 'arguments':
        return new Tuple([...this.parameters])
      case 'catch_kwargs':
        return this.catches.keywords
      case 'catch_varargs':
        return this.catches.varargs
      case 'caller':
        return this.catches.caller
    }
    return undefined
  }
}

export function compileMacro(node: MacroNode, place: Place, compileBody: CompileBody): Run {
  const make = compileCallable(node, node.name, place, compileBody)
  const { index } = place.symbols.find(node.name)!
  const { toplevel } = place
  return (frame) => {
    charge(1)
    const macro = make(frame)
    frame.slots[index] = macro
    if (toplevel) frame.runtime.exported.set(node.name, macro)
    return 0
  }
}

export function compileCallBlock(node: CallBlock, place: Place, compileBody: CompileBody): Run {
  const call = calling(node.call, place, compileCallable(node, 'caller', place, compileBody))
  return (frame) => {
    frame.runtime.line = node.line
    write(frame.out, stringOf(call(frame), 'the text of a call block'))
    return 0
  }
}

function compileCallable(
  node: MacroNode | CallBlock,
  name: string,
  place: Place,
  compileBody: CompileBody,
): Evaluate {
  const scope = new FunctionScope(place.symbols.scope)
  const symbols = new Symbols(scope, place.symbols)
  symbols.visitAll(node.params)
  symbols.visitAll(node.defaults)
  symbols.visitAll(node.body)
  const names = node.params.map((param) => param.name)
  const special = undeclared(node.body, ['caller', 'kwargs', 'varargs'])
  const explicit = names.indexOf('caller')
  if (special.has('caller') && explicit >= 0 && node.defaults.length < names.length - explicit) {
    fail("a macro with the parameter 'caller' must give it a default", node)
  }
  const catches = {
    caller: special.has('caller'),
    keywords: special.has('kwargs') && !names.includes('kwargs'),
    varargs: special.has('varargs') && !names.includes('varargs'),
  }
  const slots = names.map((param) => symbols.find(param)!.index)
  const extra = {
    caller: catches.caller && explicit < 0 ? symbols.declare('caller').index : -1,
    keywords: catches.keywords ? symbols.declare('kwargs').index : -1,
    varargs: catches.varargs ? symbols.declare('varargs').index : -1,
  }
  const within: Place = { symbols, toplevel: false, soft: false, loop: false }
  const defaults = node.defaults.map((value) => expression(value, within))
  const enter = entering(symbols)
  const body = compileBody(node.body, within)
  const shape = { name, names, slots, extra, defaults }
  return (frame) =>
    new Macro(name, names, catches, (args, keywords) =>
      called(() => {
        const out = new TextBuilder()
        const own = new Frame(frame.runtime, frame, scope.size, out)
        bind(shape, own, args, keywords)
        enter(own)
        fillDefaults(shape, own)
        body(own)
        return out.finish()
      }),
    )
}

interface Shape {
  readonly name: string
  readonly names: readonly string[]
  readonly slots: readonly number[]
  readonly extra: { readonly caller: number; readonly keywords: number; readonly varargs: number }
  readonly defaults: readonly Evaluate[]
}

const NONE: Map<string, Value> = new Map()

function bind(shape: Shape, frame: Frame, args: readonly Value[], keywords: Keywords | null): void {
  const { names, slots, extra } = shape
  const left = keywords === null ? NONE : new Map(keywords)
  for (let i = 0; i < names.length; i++) {
    let value = args[i]
    if (value === undefined) {
      value = left.get(names[i]!)
      left.delete(names[i]!)
    }
    frame.slots[slots[i]!] = value
  }
  if (extra.caller >= 0) {
    frame.slots[extra.caller] = left.get('caller') ?? new Undefined(() => 'No caller defined')
    left.delete('caller')
  }
  if (extra.keywords >= 0)
    frame.slots[extra.keywords] = new Dict([...left].map(([key, value]) => ({ key, value })))
  else if (left.size > 0) {
    throw typeError(`macro '${shape.name}' takes no keyword argument '${[...left.keys()][0]}'`)
  }
  if (extra.varargs >= 0) frame.slots[extra.varargs] = new Tuple(args.slice(names.length))
  else if (args.length > names.length) {
    throw typeError(`macro '${shape.name}' takes not more than ${names.length} argument(s)`)
  }
}

function fillDefaults({ names, slots, defaults }: Shape, frame: Frame): void {
  const first = names.length - defaults.length
  for (let i = 0; i < names.length; i++) {
    if (frame.slots[slots[i]!] !== undefined) continue
    const name = names[i]!
    frame.slots[slots[i]!] =
      i >= first ? defaults[i - first]!(frame) : new Undefined(() => `parameter '${name}' was not provided`)
  }
}
