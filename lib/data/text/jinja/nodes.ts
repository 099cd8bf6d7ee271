/** Nodes of a parsed template. */
interface Base {
  readonly line: number
}

export interface Name extends Base {
  readonly type: 'name'
  readonly name: string
  /** `param`: assigned from outside, as an argument or the variable of a loop. */
  use: 'load' | 'store' | 'param'
}
/** `namespace.attribute` as a target. */
export interface NamespaceRef extends Base {
  readonly type: 'nsref'
  readonly name: string
  readonly attribute: string
}
export interface Const extends Base {
  readonly type: 'const'
  readonly value: string | boolean | null
}
/** A number of the template, as its digits. */
export interface NumberNode extends Base {
  readonly type: 'number'
  readonly digits: string
  readonly float: boolean
}
export interface TupleNode extends Base {
  readonly type: 'tuple'
  readonly items: Expression[]
}
export interface ListNode extends Base {
  readonly type: 'list'
  readonly items: Expression[]
}
export interface DictNode extends Base {
  readonly type: 'dict'
  readonly keys: Expression[]
  readonly values: Expression[]
}
export interface Unary extends Base {
  readonly type: 'unary'
  readonly operator: 'not' | '-' | '+'
  readonly operand: Expression
}
export interface Binary extends Base {
  readonly type: 'binary'
  readonly operator: string
  readonly left: Expression
  readonly right: Expression
}
export interface Concat extends Base {
  readonly type: 'concat'
  readonly items: Expression[]
}
export interface Compare extends Base {
  readonly type: 'compare'
  readonly first: Expression
  readonly operators: string[]
  readonly others: Expression[]
}
export interface Conditional extends Base {
  readonly type: 'conditional'
  readonly test: Expression
  readonly value: Expression
  readonly otherwise: Expression | null
}
export interface Attribute extends Base {
  readonly type: 'attribute'
  readonly of: Expression
  readonly name: string
}
export interface Item extends Base {
  readonly type: 'item'
  readonly of: Expression
  readonly index: Expression
}
export interface Slice extends Base {
  readonly type: 'slice'
  readonly bounds: (Expression | null)[]
}
export interface Keyword extends Base {
  readonly type: 'keyword'
  readonly name: string
  readonly value: Expression
}
export interface Arguments {
  readonly args: Expression[]
  readonly keywords: Keyword[]
  /** `*args` */
  readonly rest: Expression | null
  /** `**kwargs` */
  readonly restKeywords: Expression | null
}
export interface Call extends Base, Arguments {
  readonly type: 'call'
  readonly callee: Expression
}
export interface FilterNode extends Base, Arguments {
  readonly type: 'filter'
  readonly name: string
  /** null: the text of the block around it. */
  readonly operand: Expression | null
}
export interface TestNode extends Base, Arguments {
  readonly type: 'test'
  readonly name: string
  readonly operand: Expression
}

export type Expression =
  | Name
  | NamespaceRef
  | Const
  | NumberNode
  | TupleNode
  | ListNode
  | DictNode
  | Unary
  | Binary
  | Concat
  | Compare
  | Conditional
  | Attribute
  | Item
  | Slice
  | Call
  | FilterNode
  | TestNode

export interface Output extends Base {
  readonly type: 'output'
  /** Strings are text of the template. */
  readonly parts: (string | Expression)[]
}
export interface If extends Base {
  readonly type: 'if'
  readonly test: Expression
  readonly body: Statement[]
  /** In the order of the template, each without branches of its own. */
  readonly others: If[]
  otherwise: Statement[]
}
export interface For extends Base {
  readonly type: 'for'
  readonly target: Expression
  readonly over: Expression
  readonly test: Expression | null
  readonly recursive: boolean
  readonly body: Statement[]
  readonly otherwise: Statement[]
}
export interface SetNode extends Base {
  readonly type: 'set'
  readonly target: Expression
  readonly value: Expression
}
export interface SetBlock extends Base {
  readonly type: 'setblock'
  readonly target: Expression
  readonly filter: FilterNode | null
  readonly body: Statement[]
}
interface Signature {
  readonly params: Name[]
  /** Of the last parameters. */
  readonly defaults: Expression[]
}
export interface MacroNode extends Base, Signature {
  readonly type: 'macro'
  readonly name: string
  readonly body: Statement[]
}
export interface CallBlock extends Base, Signature {
  readonly type: 'callblock'
  readonly call: Call
  readonly body: Statement[]
}
export interface Generation extends Base {
  readonly type: 'generation'
  readonly body: Statement[]
}
export interface FilterBlock extends Base {
  readonly type: 'filterblock'
  readonly filter: FilterNode
  readonly body: Statement[]
}
export interface With extends Base {
  readonly type: 'with'
  readonly targets: Expression[]
  readonly values: Expression[]
  readonly body: Statement[]
}
export interface Scope extends Base {
  readonly type: 'scope'
  readonly body: Statement[]
}
export interface Block extends Base {
  readonly type: 'block'
  readonly name: string
  readonly scoped: boolean
  readonly body: Statement[]
}
export interface Jump extends Base {
  readonly type: 'break' | 'continue'
}

export type Statement =
  | Output
  | If
  | For
  | SetNode
  | SetBlock
  | MacroNode
  | CallBlock
  | Generation
  | FilterBlock
  | With
  | Scope
  | Block
  | Jump

export type Node = Expression | Statement | Keyword

/** The nodes directly inside another, in the order of the template. */
export function* childrenOf(node: Node): Generator<Node> {
  for (const value of Object.values(node)) {
    for (const child of Array.isArray(value) ? value : [value]) {
      if (typeof child === 'object' && child !== null) yield child as Node
    }
  }
}

/** All nodes from one down. */
export function* descendants(node: Node): Generator<Node> {
  yield node
  for (const child of childrenOf(node)) yield* descendants(child)
}
