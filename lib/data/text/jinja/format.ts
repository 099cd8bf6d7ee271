import { Failure, typeError, valueError } from './failure.js'
import { formatValue } from './format-spec.js'
import { rawOf } from './kinds.js'
import { charge } from './limits.js'
import { type Native, type Natives, native } from './native.js'
import { repr, str } from './spelling.js'
import { concat, isStr, raw, type Str, slice } from './text.js'
import { Dict, type Keywords, type Value } from './values.js'

/** Reads attributes and items, as the fields of a format name them. */
export interface Lookup {
  getAttribute(value: Value, name: string): Value
  getItem(value: Value, index: Value): Value
}

/** Python's str.format and str.format_map. */
export function formatMethods(lookup: Lookup): Natives {
  const format: Native = ([text, ...values], keywords) =>
    new Formatter(values, keywords, lookup).format(text as Str, 2)
  const formatMap = native('format_map', 'text values /', (text: Str, values: Value) => {
    if (!(values instanceof Dict)) throw typeError('format_map() needs a dict')
    const named = values.entries().filter(({ key }) => isStr(key))
    return format([text], new Map(named.map(({ key, value }) => [rawOf(key, 'key'), value])))
  })
  return new Map([
    ['format', format],
    ['format_map', formatMap],
  ])
}

class Formatter {
  readonly #args: readonly Value[]
  readonly #keywords: Keywords | null
  readonly #lookup: Lookup
  #automatic = 0
  #manual = false

  constructor(args: readonly Value[], keywords: Keywords | null, lookup: Lookup) {
    this.#args = args
    this.#keywords = keywords
    this.#lookup = lookup
  }

  /** `depth`: of fields inside the formats of fields that are still allowed. */
  format(text: Str, depth: number): Str {
    if (depth < 0) throw valueError('Max string recursion exceeded')
    const source = raw(text)
    const parts: Str[] = []
    let at = 0
    while (at < source.length) {
      const found = /[{}]/.exec(source.slice(at))
      if (found === null) break
      charge(4)
      const brace = at + found.index
      parts.push(slice(text, at, brace))
      if (source[brace + 1] === source[brace]) {
        parts.push(slice(text, brace, brace + 1))
        at = brace + 2
      } else if (source[brace] === '}') {
        throw valueError("Single '}' encountered in format string")
      } else {
        const end = fieldEnd(source, brace)
        parts.push(this.#field(source.slice(brace + 1, end), depth))
        at = end + 1
      }
    }
    parts.push(slice(text, at))
    return concat(parts)
  }

  #field(field: string, depth: number): Str {
    charge(32)
    const match = /^((?:[^[!:]|\[[^\]]*\])*)(?:!([^:]*))?(?::(.*))?$/s.exec(field)
    if (match === null) throw valueError("expected '}' before end of string")
    const [, name, conversion, spec] = match
    let value = this.#value(name!)
    if (conversion !== undefined) {
      if (conversion === 'r' || conversion === 'a') value = repr(value)
      else if (conversion === 's') value = str(value)
      else throw valueError(`Unknown conversion specifier '${conversion}'`)
    }
    return formatValue(value, spec === undefined ? '' : raw(this.format(spec, depth - 1)))
  }

  #value(name: string): Value {
    const [first] = /^[^.[]*/.exec(name)!
    let value = this.#argument(first)
    const rest = name.slice(first.length)
    for (const [whole, attribute, index] of rest.matchAll(/\.([^.[]+)|\[([^\]]+)\]|./gs)) {
      if (attribute !== undefined) value = this.#lookup.getAttribute(value, attribute)
      else if (index !== undefined)
        value = this.#lookup.getItem(value, /^\d+$/.test(index) ? Number(index) : index)
      else throw valueError(`'${whole}' is not expected in a format field`)
    }
    return value
  }

  #argument(name: string): Value {
    if (name !== '' && !/^\d+$/.test(name)) {
      const value = this.#keywords?.get(name)
      if (value === undefined) throw new Failure('LookupError', `the format has no value for '${name}'`)
      return value
    }
    if (name === '' ? this.#manual : this.#automatic > 0) {
      throw valueError('cannot switch between manual and automatic field numbering')
    }
    if (name !== '') this.#manual = true
    const value = this.#args[name === '' ? this.#automatic++ : Number(name)]
    if (value === undefined)
      throw new Failure('LookupError', 'Replacement index out of range for positional args tuple')
    return value
  }
}

/** Position of the brace that closes a field. */
function fieldEnd(source: string, open: number): number {
  let depth = 0
  for (let i = open; i < source.length; i++) {
    if (source[i] === '{') depth++
    else if (source[i] === '}' && --depth === 0) return i
  }
  throw valueError("expected '}' before end of string")
}
