import { charge, checkNesting } from './limits.js'
import { numberText } from './numbers.js'
import { type Mark, syntaxOf } from './origin.js'
import { isStr, marked, raw, type Str, TextBuilder } from './text.js'
import { Dict, List, Num, Tuple, Undefined, type Value } from './values.js'

/** Python's str(). */
export function str(value: Value): Str {
  if (typeof value === 'string') return value
  if (typeof value === 'number') return String(value)
  if (isStr(value)) return value
  if (value instanceof Undefined) return ''
  return repr(value)
}

/** Python's repr(). */
export function repr(value: Value): Str {
  const built = new TextBuilder()
  spell(built, value, null, 0)
  return built.finish()
}

/** `mark`: of None and booleans, which do not know their origin themselves. */
function spell(built: TextBuilder, value: Value, mark: Mark, depth: number): void {
  charge(6)
  checkNesting(depth)
  if (value === null) built.addAs('None', mark)
  else if (typeof value === 'boolean') built.addAs(value ? 'True' : 'False', mark)
  else if (typeof value === 'number' || typeof value === 'bigint') {
    built.addAs(numberText({ value, float: false }), null)
  } else if (isStr(value)) spellString(built, value)
  else if (value instanceof Num) built.addAs(numberText(value), value.mark)
  else if (value instanceof Undefined) built.addAs('Undefined', null)
  else if (value instanceof List) {
    spellItems(built, '[', value.items, ']', value, depth)
  } else if (value instanceof Tuple) {
    spellItems(built, '(', value.items, value.items.length === 1 ? ',)' : ')', null, depth)
  } else if (value instanceof Dict) spellDict(built, value, depth)
  else built.add(value.spelled(depth))
}

/** Items between brackets. */
export function spellItems(
  built: TextBuilder,
  open: string,
  items: readonly Value[],
  close: string,
  of: List | null,
  depth: number,
): void {
  const syntax = syntaxOf(of?.origin ?? null)
  built.addAs(open, syntax)
  for (const [i, item] of items.entries()) {
    if (i > 0) built.addAs(', ', syntax)
    spell(built, item, of?.origin?.child(i) ?? null, depth + 1)
  }
  built.addAs(close, syntax)
}

function spellDict(built: TextBuilder, dict: Dict, depth: number): void {
  const syntax = syntaxOf(dict.origin)
  built.addAs('{', syntax)
  for (const [i, { key, value }] of dict.entries().entries()) {
    if (i > 0) built.addAs(', ', syntax)
    spell(built, key, null, depth + 1)
    built.addAs(': ', syntax)
    spell(built, value, dict.origin === null || !isStr(key) ? null : dict.origin.child(raw(key)), depth + 1)
  }
  built.addAs('}', syntax)
}

const ESCAPED = /[\\'\p{C}\p{Z}]/gu
const ESCAPED_DOUBLE = /[\\\p{C}\p{Z}]/gu

function spellString(built: TextBuilder, text: Str): void {
  const source = raw(text)
  charge(source.length / 4)
  const quote = source.includes("'") && !source.includes('"') ? '"' : "'"
  const pattern = quote === '"' ? ESCAPED_DOUBLE : ESCAPED
  const escapeAll = (part: string) => part.replace(pattern, escaped)
  const first = typeof text === 'string' ? null : (text.runs[0]?.mark ?? null)
  built.addAs(quote, syntaxOf(first))
  if (typeof text === 'string') built.addAs(escapeAll(text), null)
  else {
    let from = 0
    for (const { to, mark } of text.runs) {
      built.addAs(escapeAll(source.slice(from, to)), mark)
      from = to
    }
  }
  built.addAs(quote, syntaxOf(first))
}

function escaped(character: string): string {
  if (character === ' ') return character
  if (character === "'" || character === '\\') return `\\${character}`
  if (character === '\n') return '\\n'
  if (character === '\r') return '\\r'
  if (character === '\t') return '\\t'
  const code = character.codePointAt(0)!
  const hex = code.toString(16)
  if (code < 0x100) return `\\x${hex.padStart(2, '0')}`
  return code < 0x10000 ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`
}

/** A text that the template's language makes of a value, with the origin of the value. */
export function derived(text: string, from: Value): Str {
  if (from instanceof Num) return marked(text, from.mark)
  return text
}
