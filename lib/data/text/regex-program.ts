import { createRequire } from 'node:module'
import type * as Regexpp from '@eslint-community/regexpp'
import { PosttrainError } from '../../errors.js'

/** Longest program: a split pattern of a known tokenizer has fewer than 200 instructions. */
const MAX_INSTRUCTIONS = 2_000

/** Whether a set of characters holds a code point. */
export type CharacterSet = (codePoint: number) => boolean

/** Instruction of a program; `to` and `other` are places in it. */
export type Instruction =
  | { op: 'character'; set: CharacterSet }
  /** Tries `to` first, then `other`. `id` counts the splits of a program. */
  | { op: 'split'; to: number; other: number; id: number }
  | { op: 'jump'; to: number }
  /** One character before or after the place, which stays: the commonest lookaround. */
  | { op: 'beside'; ahead: boolean; negate: boolean; set: CharacterSet }
  | { op: 'look'; program: Program; negate: boolean }
  | { op: 'edge'; kind: 'start' | 'end' }
  | { op: 'match' }

/** Pattern without counters and captures; `forward: false` reads the text from right to left (lookbehind). */
export interface Program {
  code: Instruction[]
  splits: number
  forward: boolean
}

type Split = Extract<Instruction, { op: 'split' }>
type Node = Regexpp.AST.Element
type Alternatives = readonly Regexpp.AST.Alternative[]

/** Remembers its verdicts; V8 decides single characters, so that classes mean what they mean to it. */
function setOf(raw: string): CharacterSet {
  const one = new RegExp(`^${raw}$`, 'u')
  const low = new Uint8Array(0x10000)
  const high = new Map<number, boolean>()
  return (codePoint) => {
    if (codePoint < 0x10000) {
      low[codePoint] ||= one.test(String.fromCodePoint(codePoint)) ? 2 : 1
      return low[codePoint] === 2
    }
    let held = high.get(codePoint)
    if (held === undefined) {
      held = one.test(String.fromCodePoint(codePoint))
      high.set(codePoint, held)
    }
    return held
  }
}

class Compiler {
  readonly code: Instruction[] = []
  splits = 0
  readonly #forward: boolean
  readonly #sets: Map<string, CharacterSet>
  readonly #name: string

  constructor(forward: boolean, sets: Map<string, CharacterSet>, name: string) {
    this.#forward = forward
    this.#sets = sets
    this.#name = name
  }

  program(alternatives: Alternatives): Program {
    this.#alternatives(alternatives)
    this.#add({ op: 'match' })
    return { code: this.code, splits: this.splits, forward: this.#forward }
  }

  #refuse(what: string): PosttrainError {
    return new PosttrainError(
      'ERR_UNSUPPORTED_MODEL',
      `tokenizer.json: the pattern ${this.#name} ${what} and is refused`,
    )
  }

  #add<One extends Instruction>(instruction: One): One {
    if (this.code.length >= MAX_INSTRUCTIONS)
      throw this.#refuse(`has more than ${MAX_INSTRUCTIONS} parts, repeats counted`)
    this.code.push(instruction)
    return instruction
  }

  #split(): Split {
    return this.#add({ op: 'split', to: 0, other: 0, id: this.splits++ })
  }

  #alternatives(alternatives: Alternatives): void {
    const ends: { to: number }[] = []
    for (const [i, { elements }] of alternatives.entries()) {
      const last = i === alternatives.length - 1
      const split = last ? null : this.#split()
      if (split !== null) split.to = this.code.length
      for (const element of this.#forward ? elements : [...elements].reverse()) this.#element(element)
      if (split !== null) {
        ends.push(this.#add({ op: 'jump', to: 0 }))
        split.other = this.code.length
      }
    }
    for (const end of ends) end.to = this.code.length
  }

  #set(raw: string): CharacterSet {
    let set = this.#sets.get(raw)
    if (set === undefined) {
      set = setOf(raw)
      this.#sets.set(raw, set)
    }
    return set
  }

  #element(node: Node): void {
    switch (node.type) {
      case 'Character':
      case 'CharacterClass':
      case 'CharacterSet':
        this.#add({ op: 'character', set: this.#set(node.raw) })
        return
      case 'CapturingGroup':
      case 'Group':
        if (node.type === 'Group' && node.modifiers !== null) throw this.#refuse('changes its flags inside')
        this.#alternatives(node.alternatives)
        return
      case 'Quantifier':
        this.#quantifier(node)
        return
      case 'Assertion':
        this.#assertion(node)
        return
      case 'Backreference':
        throw this.#refuse('refers back to a group')
      default:
        throw this.#refuse(`uses ${node.type}`)
    }
  }

  #quantifier({ min, max, greedy, element }: Regexpp.AST.Quantifier): void {
    const optional = (): Split => {
      const split = this.#split()
      if (greedy) split.to = this.code.length
      else split.other = this.code.length
      return split
    }
    const leave = (split: Split) => {
      if (greedy) split.other = this.code.length
      else split.to = this.code.length
    }
    for (let i = 0; i < min; i++) this.#element(element)
    if (max === Number.POSITIVE_INFINITY) {
      const start = this.code.length
      const split = optional()
      this.#element(element)
      this.#add({ op: 'jump', to: start })
      leave(split)
      return
    }
    const splits: Split[] = []
    for (let i = min; i < max; i++) {
      splits.push(optional())
      this.#element(element)
    }
    for (const split of splits) leave(split)
  }

  #assertion(node: Regexpp.AST.Assertion): void {
    switch (node.kind) {
      case 'start':
      case 'end':
        this.#add({ op: 'edge', kind: node.kind })
        return
      case 'word':
        throw this.#refuse('has a word boundary of JavaScript')
      case 'lookahead':
      case 'lookbehind': {
        const ahead = node.kind === 'lookahead'
        const single = node.alternatives.length === 1 ? node.alternatives[0]!.elements : []
        const [only] = single
        if (
          only !== undefined &&
          single.length === 1 &&
          (only.type === 'Character' || only.type === 'CharacterClass' || only.type === 'CharacterSet')
        ) {
          this.#add({ op: 'beside', ahead, negate: node.negate, set: this.#set(only.raw) })
          return
        }
        const inner = new Compiler(ahead, this.#sets, this.#name)
        this.#add({ op: 'look', program: inner.program(node.alternatives), negate: node.negate })
        return
      }
      default:
        node satisfies never
    }
  }
}

let regexpp: typeof Regexpp | undefined

/** Parses the source of a RegExp with the flag `u`. */
export function parsePattern(source: string): Regexpp.AST.Pattern {
  regexpp ??= createRequire(import.meta.url)('@eslint-community/regexpp') as typeof Regexpp
  return new regexpp.RegExpParser().parsePattern(source, 0, source.length, { unicode: true })
}

/** Compiles a pattern; ERR_UNSUPPORTED_MODEL names what cannot run in linear time. */
export function compile(pattern: Regexpp.AST.Pattern, name: string): Program {
  return new Compiler(true, new Map(), name).program(pattern.alternatives)
}

/**
 * Whether backtracking costs a bounded number of steps at each place of a text: no lookaround, and nothing but the last
 * item of an alternative repeats without limit.
 */
export function plainlyBounded(pattern: Regexpp.AST.Pattern): boolean {
  let ways = 1
  for (const { elements } of pattern.alternatives) {
    for (const [i, element] of elements.entries()) {
      const item = element.type === 'Quantifier' ? element.element : element
      if (item.type !== 'Character' && item.type !== 'CharacterClass' && item.type !== 'CharacterSet')
        return false
      if (element.type !== 'Quantifier') continue
      const { min, max } = element
      if (max === Number.POSITIVE_INFINITY) {
        if (i < elements.length - 1 || min > 64) return false
      } else {
        ways *= max - min + 1
        if (max > 64 || ways > 256) return false
      }
    }
  }
  return pattern.alternatives.length <= 64
}
