import type { JsonData } from '../../rows/json-data.js'
import { Failure, type FailureKind, typeError } from './failure.js'
import { charge, checkNesting } from './limits.js'
import { type Mark, Origin } from './origin.js'
import { hashed, isStr, marked, type Str, type Text } from './text.js'

/**
 * A value in a template, as Python tells them apart: `number` and `bigint` are ints (bigint beyond 2^53); floats, and
 * numbers of the data, are Num; strings that contain data are Text.
 */
export type Value =
  | null
  | boolean
  | number
  | bigint
  | string
  | Text
  | Num
  | Undefined
  | List
  | Tuple
  | Dict
  | Special

export type Keywords = ReadonlyMap<string, Value>

/** A float, or a number of the data with its origin. */
export class Num {
  readonly value: number | bigint
  readonly float: boolean
  readonly mark: Mark

  constructor(value: number | bigint, float: boolean, mark: Mark = null) {
    this.value = value
    this.float = float
    this.mark = mark
  }
}

/** A missing value: empty where it is printed, looped over or tested; everything else fails with its message. */
export class Undefined {
  readonly message: () => string
  readonly kind: FailureKind

  constructor(message: () => string, kind: FailureKind = 'UndefinedError') {
    this.message = message
    this.kind = kind
  }

  fail(): never {
    throw new Failure(this.kind, this.message())
  }
}

export class List {
  #data: readonly JsonData[] | null = null
  #items: Value[]

  readonly origin: Origin | null

  /** `origin` is null for a list that the template made. */
  constructor(items: Value[], origin: Origin | null = null) {
    this.origin = origin
    this.#items = items
  }

  static of(data: readonly JsonData[], origin: Origin): List {
    const list = new List([], origin)
    list.#data = data
    return list
  }

  /** Not to be changed. */
  get items(): Value[] {
    if (this.#data !== null) {
      const data = this.#data
      this.#data = null
      charge(data.length)
      this.#items = Array.from(data, (item, i) => fromData(item, new Origin(this.origin, i)))
    }
    return this.#items
  }
}

export class Tuple {
  readonly items: readonly Value[]
  readonly names: readonly string[]

  /** `names`: of the items of a named tuple. */
  constructor(items: readonly Value[], names: readonly string[] = []) {
    this.items = items
    this.names = names
  }
}

export interface Entry {
  readonly key: Value
  readonly value: Value
}

/** Key of a Map under which equal values meet: 1, 1.0 and True are one key in Python. */
export function hash(key: Value, depth = 0): unknown {
  if (isStr(key)) return hashed(key)
  if (typeof key === 'boolean') return key ? 1 : 0
  if (key instanceof Num) {
    const { value } = key
    return Number.isInteger(value) && !Number.isSafeInteger(value) ? BigInt(value) : value
  }
  if (key instanceof Tuple) return `\0(${key.items.map((item) => tagged(item, depth + 1)).join('\0,')})`
  if (key instanceof List) throw typeError("unhashable type: 'list'")
  if (key instanceof Dict) throw typeError("unhashable type: 'dict'")
  if (key instanceof Undefined) return Undefined
  return key
}

function tagged(item: Value, depth: number): string {
  checkNesting(depth)
  const key = hash(item, depth)
  const text = `${typeof key}:${String(key)}`
  charge(4 + text.length / 8)
  return text
}

type DictData = ReadonlyMap<string, JsonData> | { readonly [key: string]: JsonData | undefined }

export class Dict {
  #data: DictData | null = null
  readonly #entries: Map<unknown, Entry>

  readonly origin: Origin | null

  /** `origin` is null for a dict that the template made. */
  constructor(entries: Iterable<Entry>, origin: Origin | null = null) {
    this.origin = origin
    this.#entries = new Map()
    for (const entry of entries) {
      const key = hash(entry.key)
      const before = this.#entries.get(key)
      this.#entries.set(key, before === undefined ? entry : { key: before.key, value: entry.value })
    }
  }

  static of(data: DictData, origin: Origin): Dict {
    const dict = new Dict([], origin)
    dict.#data = data
    return dict
  }

  get #map(): Map<unknown, Entry> {
    if (this.#data !== null) {
      const data = this.#data
      this.#data = null
      const pairs =
        data instanceof Map ? data : Object.entries(data as { [key: string]: JsonData | undefined })
      let count = 1
      for (const [key, value] of pairs as Iterable<[string, JsonData | undefined]>) {
        if (value === undefined) continue
        this.#entries.set(key, new DataEntry(key, value, new Origin(this.origin, key)))
        count++
      }
      charge(count)
    }
    return this.#entries
  }

  get size(): number {
    return this.#map.size
  }

  get(key: string): Value | undefined {
    return this.#map.get(key)?.value
  }

  /** Fails for a key that Python cannot hash. */
  find(key: Value): Value | undefined {
    return this.#map.get(hash(key))?.value
  }

  entries(): Entry[] {
    charge(6 * this.size)
    return [...this.#map.values()]
  }

  keys(): Value[] {
    return this.entries().map(({ key }) => key)
  }

  values(): Value[] {
    return this.entries().map(({ value }) => value)
  }
}

/** An entry of the data, made a value at its first use. */
class DataEntry implements Entry {
  readonly #key: string
  readonly #data: JsonData
  readonly #origin: Origin
  #value: Value | undefined

  constructor(key: string, data: JsonData, origin: Origin) {
    this.#key = key
    this.#data = data
    this.#origin = origin
  }

  get key(): Str {
    return marked(this.#key, this.#origin.ofKey)
  }

  get value(): Value {
    if (this.#value === undefined) this.#value = fromData(this.#data, this.#origin)
    return this.#value
  }
}

/** Values one after the other; undefined at the end. */
export interface Cursor {
  next(): Value | undefined
}

/** A value of another type: views, ranges, generators, functions, namespaces. */
export abstract class Special {
  abstract readonly typeName: string

  /** Python's repr(); `depth`: of lists and dicts around. */
  spelled(_depth: number): Str {
    return `<${this.typeName}>`
  }

  get isFalse(): boolean {
    return false
  }

  /** Reads its items one after the other; null where it has none of its own. */
  get cursor(): Cursor | null {
    return null
  }

  attribute(_name: string): Value | undefined {
    return undefined
  }
}

/** A function or a method. */
export class Callable extends Special {
  readonly typeName: string = 'function'

  readonly name: string
  readonly call: (args: readonly Value[], keywords: Keywords | null) => Value

  constructor(name: string, call: (args: readonly Value[], keywords: Keywords | null) => Value) {
    super()
    this.name = name
    this.call = call
  }

  override spelled(): Str {
    return `<${this.typeName} ${this.name}>`
  }
}

/** The value of data at a place of the template's variables. */
export function fromData(data: JsonData, origin: Origin): Value {
  switch (typeof data) {
    case 'string':
      return marked(data, origin)
    case 'boolean':
      return data
    case 'number':
      return new Num(integral(data), !Number.isInteger(data), origin)
    case 'bigint':
      return new Num(small(data), false, origin)
    case 'object':
      if (data === null) return null
      if (data instanceof Number) return new Num(data.valueOf(), true, origin)
      if (Array.isArray(data)) return List.of(data, origin)
      if (data instanceof Map || isPlain(data)) return Dict.of(data as DictData, origin)
  }
  throw typeError(`${origin.data.path.join('.')} is not JSON data`)
}

function isPlain(data: object): boolean {
  const prototype = Object.getPrototypeOf(data)
  // Objects of another realm have another Object.prototype, whose own prototype is null all the same.
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

/** An int, as a number where that is exact. */
export function small(value: bigint): number | bigint {
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value
}

function integral(value: number): number | bigint {
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? BigInt(value) : value
}

export function float(value: number): Num {
  return new Num(value, true)
}
