import { PosttrainError } from '../../errors.js'
import { plainOf } from '../rows/exact-json.js'
import type { Message } from '../rows/messages.js'
import type { Tokenizer } from './tokenizer.js'

// Marks of spans in the rendered text: noncharacters, which texts may not contain.
export const BEGIN = '\uFDD1'
export const END = '\uFDD2'
const RESERVED = /[\uFDD0-\uFDD2]/u

/** An assistant turn, from the start of generation to the end of its terminator. */
export interface Turn {
  message: Message
  span: { from: number; to: number; text: string } | null
}

export const spanOf = (text: string, from: number, to: number) => ({ from, to, text: text.slice(from, to) })

/** Removes the marks from a text and returns the spans between them. */
export function cutMarks(marked: string): { text: string; spans: [number, number][] } {
  const spans: [number, number][] = []
  let text = ''
  let open: number | null = null
  for (const piece of marked.split(/([\uFDD1\uFDD2])/u)) {
    if (piece === BEGIN) open = text.length
    else if (piece === END && open !== null) {
      spans.push([open, text.length])
      open = null
    } else text += piece
  }
  return { text, spans }
}

/** End of a span with its terminator: the special token that ends it, or follows it after white space only. */
export function terminated(text: string, from: number, to: number, tokenizer: Tokenizer): number {
  const body = text.slice(from, to).trimEnd()
  if (tokenizer.endsWithSpecial(body)) return from + body.length
  const next = tokenizer.firstSpecial(text, to)
  return next !== null && text.slice(to, next.start).trim() === '' ? next.end : to
}

/** End of the last turn of `grown`: at its terminator, else at the end of its content. */
export function turnEnd(grown: string, from: number, message: Message, tokenizer: Tokenizer): number {
  const body = grown.slice(from).trimEnd()
  if (tokenizer.endsWithSpecial(body)) return from + body.length
  const content = tokenizer.guard(message.content).trim()
  const at = content === '' ? -1 : grown.lastIndexOf(content)
  return at >= from ? at + content.length : from + body.length
}

/** Guards every string in `value`, so that special tokens in it stay text. */
export function guardStrings(value: unknown, tokenizer: Tokenizer | undefined): unknown {
  if (typeof value === 'string') {
    if (RESERVED.test(value))
      throw new PosttrainError(
        'ERR_DATA',
        'a text contains one of the Unicode noncharacters U+FDD0 to U+FDD2',
      )
    return tokenizer === undefined ? value : tokenizer.guard(value)
  }
  if (Array.isArray(value)) return value.map((item) => guardStrings(item, tokenizer))
  const plain = value instanceof Map || typeof value === 'bigint' || value instanceof Number
  if (plain) return guardStrings(plainOf(value), tokenizer)
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(
      Object.entries(value)
        .filter(([key]) => key !== 'contentParts')
        .map(([key, item]) => [key, guardStrings(item, tokenizer)]),
    )
  }
  return value
}
