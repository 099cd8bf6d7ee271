import { Failure, SyntaxFailure, valueError } from './failure.js'
import { Namespace } from './globals.js'
import { itemsOf } from './iteration.js'
import { charge } from './limits.js'
import type { Expression, Node, Statement } from './nodes.js'
import type { Frame } from './runtime.js'
import type { FunctionScope, Slot, Symbols } from './symbols.js'
import type { Str, TextBuilder } from './text.js'
import type { Value } from './values.js'

/** What the compiler knows about the place of a node. */
export interface Place {
  readonly symbols: Symbols
  /** Outside of loops, macros and blocks: what is set here is seen by blocks. */
  readonly toplevel: boolean
  /** Inside an `if`: unknown filters and tests fail only when they are used. */
  readonly soft: boolean
  /** Inside a loop of the same function, which `break` ends. */
  readonly loop: boolean
}

export type Evaluate = (frame: Frame) => Value

/** Runs a statement: 0 to go on, 1 to leave the loop around, 2 to begin its next round. */
export type Run = (frame: Frame) => 0 | 1 | 2

export function frameOf(frame: Frame, hops: number): Frame {
  let at = frame
  for (let i = 0; i < hops; i++) at = at.parent!
  return at
}

/** Reads a variable; undefined where it is not set. */
export function reader(scope: FunctionScope, slot: Slot): (frame: Frame) => Value | undefined {
  const { index } = slot
  const hops = scope.depth - slot.scope.depth
  if (hops === 0) return (frame) => frame.slots[index]
  return (frame) => frameOf(frame, hops).slots[index]
}

/** Gives the variables of a frame their first values. */
export function entering(symbols: Symbols): (frame: Frame) => void {
  const loads: ((frame: Frame) => void)[] = []
  for (const [slot, load] of symbols.loads) {
    const { index } = slot
    if (load.kind === 'resolve') {
      const { name } = load
      loads.push((frame) => {
        frame.slots[index] = frame.runtime.resolve(name)
      })
    } else if (load.kind === 'alias') {
      const read = reader(symbols.scope, load.from)
      loads.push((frame) => {
        frame.slots[index] = read(frame)
      })
    } else if (load.kind === 'missing') {
      loads.push((frame) => {
        frame.slots[index] = undefined
      })
    }
  }
  if (loads.length === 1) return loads[0]!
  return (frame) => {
    for (const load of loads) load(frame)
  }
}

/** Forgets the variables of a frame. */
export function leaving(symbols: Symbols): (frame: Frame) => void {
  const indices = [...symbols.loads.keys()].map(({ index }) => index)
  return (frame) => {
    for (const index of indices) frame.slots[index] = undefined
  }
}

/** Assigns to a name, a tuple of names, or an attribute of a namespace. */
export function assigner(target: Expression, place: Place): (frame: Frame, value: Value) => void {
  const { scope } = place.symbols
  if (target.type === 'name') {
    const { index } = place.symbols.find(target.name)!
    const { name } = target
    if (!place.toplevel) {
      return (frame, value) => {
        frame.slots[index] = value
      }
    }
    return (frame, value) => {
      frame.slots[index] = value
      frame.runtime.exported.set(name, value)
    }
  }
  if (target.type === 'nsref') {
    const read = reader(scope, place.symbols.find(target.name)!)
    return (frame, value) => {
      const namespace = read(frame)
      if (!(namespace instanceof Namespace)) {
        throw new Failure('TemplateError', 'cannot assign attribute on non-namespace object')
      }
      namespace.set(target.attribute, value)
    }
  }
  if (target.type !== 'tuple') throw new SyntaxFailure('only names can be assigned', target.line)
  const parts = target.items.map((item) => assigner(item, place))
  return (frame, value) => {
    const items = itemsOf(value)
    if (items.length !== parts.length) {
      const problem = items.length < parts.length ? 'not enough' : 'too many'
      throw valueError(`${problem} values to unpack (expected ${parts.length}, got ${items.length})`)
    }
    for (let i = 0; i < parts.length; i++) parts[i]!(frame, items[i]!)
  }
}

export function fail(message: string, node: Node): never {
  throw new SyntaxFailure(message, node.line)
}

/** Writes into the text of a function. */
export function write(out: TextBuilder, text: Str): void {
  if (typeof text === 'string') {
    charge(text.length / 64)
    out.addAs(text, null)
  } else {
    charge(text.length / 64)
    out.add(text)
  }
}

/** Compiles the statements inside another. */
export type CompileBody = (body: readonly Statement[], place: Place) => Run
