import { typeError } from './failure.js'
import { typeName } from './kinds.js'
import { charge } from './limits.js'
import { codePoints } from './points.js'
import { spellItems } from './spelling.js'
import { characters, isStr, raw, type Str, TextBuilder } from './text.js'
import { type Cursor, Dict, List, Special, Tuple, Undefined, type Value } from './values.js'

class Items implements Cursor {
  readonly #items: readonly Value[]
  #at = 0

  constructor(items: readonly Value[]) {
    this.#items = items
  }

  next(): Value | undefined {
    return this.#items[this.#at++]
  }
}

/** A Python generator: read once. */
export class Iter extends Special implements Cursor {
  readonly typeName: string
  readonly #next: () => Value | undefined

  constructor(next: () => Value | undefined, name = 'generator') {
    super()
    this.#next = next
    this.typeName = name
  }

  next(): Value | undefined {
    return this.#next()
  }

  override get cursor(): Cursor {
    return this
  }

  override spelled(): Str {
    return `<${this.typeName} object>`
  }
}

/** `dict.keys()`, `.values()` and `.items()`. */
export class View extends Special {
  readonly dict: Dict
  readonly kind: 'keys' | 'values' | 'items'

  constructor(dict: Dict, kind: 'keys' | 'values' | 'items') {
    super()
    this.dict = dict
    this.kind = kind
  }

  get typeName(): string {
    return `dict_${this.kind}`
  }

  get items(): Value[] {
    if (this.kind === 'keys') return this.dict.keys()
    if (this.kind === 'values') return this.dict.values()
    return this.dict.entries().map(({ key, value }) => new Tuple([key, value]))
  }

  override get isFalse(): boolean {
    return this.dict.size === 0
  }

  override spelled(depth: number): Str {
    const built = new TextBuilder()
    built.addAs(`${this.typeName}(`, null)
    spellItems(built, '[', this.items, ']', null, depth)
    built.addAs(')', null)
    return built.finish()
  }
}

export class Range extends Special {
  readonly typeName = 'range'
  readonly length: number
  #items: Value[] | null = null

  readonly start: number
  readonly stop: number
  readonly step: number

  constructor(start: number, stop: number, step: number) {
    super()
    this.start = start
    this.stop = stop
    this.step = step
    this.length = Math.max(0, Math.ceil((stop - start) / step))
  }

  get items(): Value[] {
    if (this.#items === null) charge(this.length)
    this.#items ??= Array.from({ length: this.length }, (_, i) => this.start + i * this.step)
    return this.#items
  }

  override get isFalse(): boolean {
    return this.length === 0
  }

  override spelled(): Str {
    const { start, stop, step } = this
    return step === 1 ? `range(${start}, ${stop})` : `range(${start}, ${stop}, ${step})`
  }
}

/** The items of a value that has a length and an order; null for other values. Not to be changed. */
export function sizedItems(value: Value): readonly Value[] | null {
  if (value instanceof List || value instanceof Tuple) return value.items
  if (isStr(value)) return characters(value)
  if (value instanceof Dict) return value.keys()
  if (value instanceof View || value instanceof Range) return value.items
  if (value instanceof Undefined) return []
  return null
}

/** Python's iter(). */
export function iterate(value: Value): Cursor {
  const own = value instanceof Special ? value.cursor : null
  if (own !== null) return own
  const items = sizedItems(value)
  if (items === null) throw typeError(`'${typeName(value)}' object is not iterable`)
  return new Items(items)
}

/** Python's list(). Not to be changed. */
export function itemsOf(value: Value): readonly Value[] {
  const sized = sizedItems(value)
  if (sized !== null) return sized
  const cursor = iterate(value)
  const items: Value[] = []
  for (let next = cursor.next(); next !== undefined; next = cursor.next()) {
    charge(1)
    items.push(next)
  }
  return items
}

export function isIterable(value: Value): boolean {
  return (
    value instanceof Iter ||
    value instanceof List ||
    value instanceof Tuple ||
    isStr(value) ||
    value instanceof Dict ||
    value instanceof View ||
    value instanceof Range ||
    value instanceof Undefined
  )
}

/** Python's len(); null where there is none. */
export function lengthOf(value: Value): number | null {
  if (isStr(value)) return codePoints(raw(value))
  if (value instanceof List || value instanceof Tuple) return value.items.length
  if (value instanceof Dict) return value.size
  if (value instanceof View) return value.dict.size
  if (value instanceof Range) return value.length
  return value instanceof Undefined ? 0 : null
}

/** A generator over the items of a value, whose iteration begins with the first item asked for. */
export function generated(value: Value, next: (items: Cursor) => Value | undefined): Iter {
  let items: Cursor | null = null
  return new Iter(() => {
    items ??= iterate(value)
    return next(items)
  })
}
