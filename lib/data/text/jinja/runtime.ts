import type { JsonData } from '../../rows/json-data.js'
import { globals } from './globals.js'
import { Generated, type Mark, Origin } from './origin.js'
import { type Str, Text, TextBuilder } from './text.js'
import { fromData, Undefined, type Value } from './values.js'

/** One rendering: its variables, its output and the stretches of it that `{% generation %}` marks. */
export class Runtime {
  readonly output = new TextBuilder()
  readonly generation: { from: number; to: number }[] = []
  /** Variables that the template sets outside of loops and macros, for its blocks. */
  readonly exported = new Map<string, Value>()
  readonly #data: Record<string, JsonData>
  readonly #variables = new Map<string, Value>()
  readonly #globals: ReadonlyMap<string, Value>
  #blocks = 0
  /** Line of the statement that runs. */
  line = 1

  constructor(data: Record<string, JsonData>, now: Date | undefined) {
    this.#data = data
    this.#globals = globals(now)
  }

  resolve(name: string): Value | undefined {
    const exported = this.exported.get(name)
    if (exported !== undefined) return exported
    const known = this.#variables.get(name)
    if (known !== undefined) return known
    const data = Object.hasOwn(this.#data, name) ? this.#data[name] : undefined
    if (data === undefined) return this.#globals.get(name)
    const value = fromData(data, new Origin(null, name))
    this.#variables.set(name, value)
    return value
  }

  /** Marks the text of a `{% generation %}` block that is printed later. */
  generated(text: Str): Str {
    const block = ++this.#blocks
    const marks = new Map<Mark, Generated>()
    const mark = (of: Mark) => {
      if (of instanceof Generated) return of
      let generated = marks.get(of)
      if (generated === undefined) {
        generated = new Generated(of, block)
        marks.set(of, generated)
      }
      return generated
    }
    if (typeof text === 'string')
      return text === '' ? '' : new Text(text, [{ to: text.length, mark: mark(null) }])
    return new Text(
      text.text,
      text.runs.map((run) => ({ to: run.to, mark: mark(run.mark) })),
    )
  }
}

/** The variables of a function while it runs, and the text that it writes. */
export class Frame {
  readonly slots: (Value | undefined)[]

  readonly runtime: Runtime
  readonly parent: Frame | null
  out: TextBuilder

  constructor(runtime: Runtime, parent: Frame | null, size: number, out: TextBuilder) {
    this.runtime = runtime
    this.parent = parent
    this.out = out
    this.slots = new Array(size).fill(undefined)
  }
}

export function undefinedName(name: string): Undefined {
  return new Undefined(() => `'${name}' is undefined`)
}
