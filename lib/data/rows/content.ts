import { bad, isObject, kindOf, type Origin, shown, withoutNulls } from './fields.js'
import type { JsonData } from './json-data.js'
import { unmasked } from './turn-mask.js'

/** A part of a message's content. */
export type TextPart = { readonly [key: string]: JsonData }

/** Content of a message: one text, the parts it was joined from, and whether all of them are trained. */
export interface Content {
  content: string
  parts?: readonly TextPart[]
  train?: boolean
}

/** Fields of a message that hold reasoning. */
export const REASONING = ['reasoning_content', 'thinking', 'reasoning']

/** Kinds of parts that hold text: of OpenAI's two APIs. */
const TEXTS = new Set(['text', 'input_text', 'output_text'])
/** Names of the text in a part; LLaMA-Factory's is `value`. */
const NAMES = ['text', 'value', 'content']

/** Reads a content, a text or a list of text parts. Throws ERR_DATA naming a part of another kind. */
export function contentOf(value: unknown, at: string, origin: Origin): Content {
  if (typeof value === 'string') return { content: value }
  const list = listIn(value)
  if (list === undefined)
    throw bad(origin, at, `must be a string or a list of text parts, got ${kindOf(value)}`)
  const read = list.map((part, i) => partOf(part, `${at}[${i}]`, origin))
  const content = read.map(({ text }) => text).join('')
  const parts = read.map(({ part }) => part)
  const flags = new Set(read.map(({ train }) => train))
  const [train] = flags
  if (flags.size > 1)
    throw bad(
      origin,
      at,
      'has parts that are trained and parts that are not, which is not supported: write train beside content',
    )
  return { content, ...(parts.length > 0 && { parts }), ...(train !== undefined && { train }) }
}

/** The parts of a content: a list, one part, or Gemini's object of them. */
function listIn(value: unknown): readonly unknown[] | undefined {
  if (Array.isArray(value)) return value
  if (!isObject(value)) return undefined
  const { type, parts } = withoutNulls(value)
  if (Array.isArray(parts)) return parts
  return type === undefined ? undefined : [value]
}

function partOf(
  item: unknown,
  at: string,
  origin: Origin,
): { text: string; part: TextPart; train?: boolean } {
  if (typeof item === 'string') return { text: item, part: { type: 'text', text: item } }
  if (!isObject(item)) throw bad(origin, at, `must be a part of type text, got ${kindOf(item)}`)
  const { train, rest } = unmasked(withoutNulls(item), at, origin)
  const { type = 'text' } = rest
  if (typeof type !== 'string' || !TEXTS.has(type))
    throw bad(origin, at, `is of type ${shown(type)}: only parts of type text are supported`)
  const name = NAMES.find((name) => typeof rest[name] === 'string')
  if (name === undefined && rest.type === undefined)
    throw bad(
      origin,
      at,
      `holds ${Object.keys(rest).join(', ') || 'nothing'}: only parts of type text are supported`,
    )
  if (name === undefined) throw bad(origin, `${at}.text`, `must be a string, got ${kindOf(rest.text)}`)
  const { [name]: text, ...others } = rest as Record<string, string>
  const part = { ...others, type: 'text', text: text! }
  return { text: text!, part, ...(train !== undefined && { train }) }
}
