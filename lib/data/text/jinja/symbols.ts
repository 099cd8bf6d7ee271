import { charge } from './limits.js'
import type { Expression, For, Node, Statement } from './nodes.js'
import { childrenOf } from './nodes.js'

/** The function that a stretch of a template belongs to: the template, a macro, a recursive loop. */
export class FunctionScope {
  readonly depth: number
  size = 0

  constructor(parent: FunctionScope | null) {
    this.depth = parent === null ? 0 : parent.depth + 1
  }
}

/** Place of a variable among those of its function. */
export interface Slot {
  readonly scope: FunctionScope
  readonly index: number
}

/** How a variable of a frame gets its value when the frame is entered. */
export type Load =
  | { readonly kind: 'param' }
  | { readonly kind: 'resolve'; readonly name: string }
  | { readonly kind: 'alias'; readonly from: Slot }
  | { readonly kind: 'missing' }

/**
 * The variables of a frame (a template, the body of a loop, macro or block), with Jinja2's rules of scope: a frame sees
 * the variables around it; what it sets stays inside; a name that is read before it is set begins with the value around.
 */
export class Symbols {
  refs = new Map<string, Slot>()
  loads = new Map<Slot, Load>()
  stores = new Set<string>()
  readonly #own: Map<string, Slot>

  readonly scope: FunctionScope
  readonly parent: Symbols | null

  constructor(scope: FunctionScope, parent: Symbols | null, own: Map<string, Slot> = new Map()) {
    this.scope = scope
    this.parent = parent
    this.#own = own
  }

  find(name: string): Slot | null {
    return this.refs.get(name) ?? this.parent?.find(name) ?? null
  }

  /** The load of a slot of this frame or one around it. */
  loadOf(slot: Slot): Load | null {
    return this.loads.get(slot) ?? this.parent?.loadOf(slot) ?? null
  }

  declare(name: string): Slot {
    this.stores.add(name)
    return this.#define(name, { kind: 'param' })
  }

  load(name: string): void {
    if (this.find(name) === null) this.#define(name, { kind: 'resolve', name })
  }

  store(name: string): void {
    this.stores.add(name)
    if (this.refs.has(name)) return
    const outer = this.parent?.find(name) ?? null
    this.#define(name, outer === null ? { kind: 'missing' } : { kind: 'alias', from: outer })
  }

  #define(name: string, load: Load): Slot {
    let slot = this.#own.get(name)
    if (slot === undefined) {
      slot = { scope: this.scope, index: this.scope.size++ }
      this.#own.set(name, slot)
    }
    this.refs.set(name, slot)
    this.loads.set(slot, load)
    return slot
  }

  #copy(): Symbols {
    charge(8 + 2 * (this.refs.size + this.loads.size + this.stores.size))
    const copy = new Symbols(this.scope, this.parent, this.#own)
    copy.refs = new Map(this.refs)
    copy.loads = new Map(this.loads)
    copy.stores = new Set(this.stores)
    return copy
  }

  /** Branches of an `if` share the frame; a name that only some of them set begins with the value around. */
  #branches(branches: readonly (() => readonly Node[])[]): void {
    const copies = branches.map((nodes) => {
      const copy = this.#copy()
      for (const node of nodes()) copy.visit(node)
      return copy
    })
    const set = new Set(copies.flatMap((copy) => [...copy.stores]).filter((name) => !this.stores.has(name)))
    for (const copy of copies) {
      charge(copy.refs.size + copy.loads.size + copy.stores.size)
      for (const [name, slot] of copy.refs) this.refs.set(name, slot)
      for (const [slot, load] of copy.loads) this.loads.set(slot, load)
      for (const name of copy.stores) this.stores.add(name)
    }
    for (const name of set) {
      const outer = this.parent?.find(name) ?? null
      const load: Load = outer === null ? { kind: 'resolve', name } : { kind: 'alias', from: outer }
      this.loads.set(this.find(name)!, load)
    }
  }

  /** Takes in the names of a node, but not those of frames inside it. */
  visit(node: Node): void {
    charge(1)
    switch (node.type) {
      case 'name':
        if (node.use === 'param') this.declare(node.name)
        else if (node.use === 'store') this.store(node.name)
        else this.load(node.name)
        break
      case 'nsref':
        this.load(node.name)
        break
      case 'if':
        this.visit(node.test)
        this.#branches([() => node.body, () => node.others, () => node.otherwise])
        break
      case 'macro':
        this.store(node.name)
        break
      case 'set':
        this.visit(node.value)
        this.visit(node.target)
        break
      case 'for':
        this.visit(node.over)
        break
      case 'callblock':
        this.visit(node.call)
        break
      case 'filterblock':
        this.visit(node.filter)
        break
      case 'with':
        this.visitAll(node.values)
        break
      case 'setblock':
        this.visit(node.target)
        break
      case 'scope':
      case 'block':
      case 'generation':
        break
      default:
        for (const child of childrenOf(node)) this.visit(child)
    }
  }

  visitAll(nodes: readonly Node[]): void {
    for (const node of nodes) this.visit(node)
  }

  /** The variables of a loop are given to its frame. */
  visitTarget(target: Expression): void {
    if (target.type === 'name') this.declare(target.name)
    else if (target.type === 'tuple') for (const item of target.items) this.visitTarget(item)
  }
}

/** Which of some names are read in a body before it sets them. */
export function undeclared(body: readonly Statement[], wanted: readonly string[]): Set<string> {
  const names = new Set(wanted)
  const found = new Set<string>()
  const visit = (node: Node) => {
    charge(1)
    if (node.type === 'block') return
    if (node.type === 'name') {
      if (node.use === 'load' && names.has(node.name)) found.add(node.name)
      else if (node.use !== 'load') names.delete(node.name)
    }
    for (const child of childrenOf(node)) visit(child)
  }
  for (const node of body) visit(node)
  return found
}

/** Whether something in a loop sets the variable `loop`. */
export function setsLoop(node: For | Node): boolean {
  charge(1)
  if (node.type === 'name') return node.use !== 'load' && node.name === 'loop'
  for (const child of childrenOf(node)) if (setsLoop(child)) return true
  return false
}
