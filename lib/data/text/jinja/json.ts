import { typeError, valueError } from './failure.js'
import { typeName } from './kinds.js'
import { charge, checkNesting } from './limits.js'
import { floatText, numberText } from './numbers.js'
import { compareKeys } from './operators.js'
import { type Mark, syntaxOf } from './origin.js'
import { concat, isStr, marked, raw, type Str, TextBuilder } from './text.js'
import { Dict, type Entry, List, Num, Tuple, type Value } from './values.js'

export interface JsonOptions {
  ascii: boolean
  indent: Str | null
  separators: readonly [Str, Str]
  sortKeys: boolean
}

/** Python's json.dumps. */
export function toJson(value: Value, options: JsonOptions): Str {
  const built = new TextBuilder()
  new Writer(built, options).write(value, null, 0)
  return built.finish()
}

class Writer {
  readonly built: TextBuilder
  readonly options: JsonOptions

  constructor(built: TextBuilder, options: JsonOptions) {
    this.built = built
    this.options = options
  }

  /** `mark`: of null and booleans, which do not know their origin themselves. */
  write(value: Value, mark: Mark, depth: number): void {
    charge(10)
    checkNesting(depth)
    const { built } = this
    if (value === null) built.addAs('null', mark)
    else if (typeof value === 'boolean') built.addAs(String(value), mark)
    else if (typeof value === 'number' || typeof value === 'bigint') {
      built.addAs(numberText({ value, float: false }), null)
    } else if (isStr(value)) this.#string(value)
    else if (value instanceof Num) built.addAs(jsonNumber(value), value.mark)
    else if (value instanceof List) this.#items(value.items, value, depth)
    else if (value instanceof Tuple) this.#items(value.items, null, depth)
    else if (value instanceof Dict) this.#dict(value, depth)
    else throw typeError(`Object of type ${typeName(value)} is not JSON serializable`)
  }

  #string(text: Str): void {
    const syntax = syntaxOf(typeof text === 'string' ? null : (text.runs[0]?.mark ?? null))
    this.built.addAs('"', syntax)
    this.#escaped(text)
    this.built.addAs('"', syntax)
  }

  #escaped(text: Str): void {
    const source = raw(text)
    charge(source.length / 8)
    const escapeAll = (part: string) => {
      const escaped = escapeJson(part, this.options.ascii)
      charge((escaped.length - part.length) / 8)
      return escaped
    }
    if (typeof text === 'string') {
      this.built.addAs(escapeAll(text), null)
      return
    }
    let from = 0
    for (const { to, mark } of text.runs) {
      this.built.addAs(escapeAll(source.slice(from, to)), mark)
      from = to
    }
  }

  #items(items: readonly Value[], of: List | null, depth: number): void {
    const syntax = syntaxOf(of?.origin ?? null)
    if (items.length === 0) {
      this.built.addAs('[]', syntax)
      return
    }
    this.built.addAs('[', syntax)
    for (const [i, item] of items.entries()) {
      if (i > 0) this.#added(this.options.separators[0], syntax)
      this.#line(depth + 1, syntax)
      this.write(item, of?.origin?.child(i) ?? null, depth + 1)
    }
    this.#line(depth, syntax)
    this.built.addAs(']', syntax)
  }

  #dict(dict: Dict, depth: number): void {
    const syntax = syntaxOf(dict.origin)
    const entries = dict.entries()
    if (entries.length === 0) {
      this.built.addAs('{}', syntax)
      return
    }
    if (this.options.sortKeys) entries.sort((a, b) => compareKeys(a.key, b.key))
    this.built.addAs('{', syntax)
    for (const [i, entry] of entries.entries()) {
      if (i > 0) this.#added(this.options.separators[0], syntax)
      this.#line(depth + 1, syntax)
      this.#entry(entry, dict, syntax, depth)
    }
    this.#line(depth, syntax)
    this.built.addAs('}', syntax)
  }

  #entry({ key, value }: Entry, dict: Dict, syntax: Mark, depth: number): void {
    this.built.addAs('"', syntax)
    this.#escaped(keyText(key))
    this.built.addAs('"', syntax)
    this.#added(this.options.separators[1], syntax)
    this.write(value, dict.origin === null || !isStr(key) ? null : dict.origin.child(raw(key)), depth + 1)
  }

  /** Punctuation that the template may have given; it belongs to the container. */
  #added(text: Str, syntax: Mark): void {
    if (typeof text === 'string') this.built.addAs(text, syntax)
    else this.built.add(text)
  }

  #line(depth: number, syntax: Mark): void {
    const { indent } = this.options
    if (indent === null) return
    this.built.addAs('\n', syntax)
    charge(depth + (depth * raw(indent).length) / 32)
    for (let i = 0; i < depth; i++) this.#added(indent, syntax)
  }
}

function keyText(key: Value): Str {
  if (isStr(key)) return key
  if (key === null) return 'null'
  if (typeof key === 'boolean') return String(key)
  if (typeof key === 'number' || typeof key === 'bigint') return numberText({ value: key, float: false })
  if (key instanceof Num) return marked(jsonNumber(key), key.mark)
  throw typeError(`keys must be str, int, float, bool or None, not ${typeName(key)}`)
}

function jsonNumber(number: Num): string {
  const value = Number(number.value)
  if (!number.float) return numberText(number)
  if (Number.isNaN(value)) return 'NaN'
  return Number.isFinite(value) ? floatText(value) : value < 0 ? '-Infinity' : 'Infinity'
}

const SHORT: Record<string, string> = {
  '"': '\\"',
  '\\': '\\\\',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\f': '\\f',
  '\b': '\\b',
}

function escapeJson(text: string, ascii: boolean): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: JSON escapes them
  const pattern = ascii ? /["\\]|[^ -~]/g : /["\\\0-\x1f]/g
  return text.replace(
    pattern,
    (unit) => SHORT[unit] ?? `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** Separators and indent as json.dumps takes them. */
export function jsonOptions(
  ascii: boolean,
  indent: number | Str | null,
  separators: readonly [Str, Str] | null,
  sortKeys: boolean,
): JsonOptions {
  if (typeof indent === 'number' && indent > 100) throw valueError('an indent of more than 100')
  const spaces = typeof indent === 'number' ? ' '.repeat(Math.max(0, indent)) : indent
  return {
    ascii,
    indent: spaces === null ? null : concat([spaces]),
    separators: separators ?? (indent === null ? [', ', ': '] : [',', ': ']),
    sortKeys,
  }
}
