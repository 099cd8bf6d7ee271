import { contentOf } from './content.js'
import { bad, dataIn, dataOf, type Fields, isEmpty, isObject, kindOf, type Origin } from './fields.js'
import { withoutFiller } from './filler.js'
import type { JsonData } from './json-data.js'
import type { Message } from './messages.js'
import { SYSTEM } from './roles.js'
import { isNone, toolsOf } from './tools.js'

/** What a template reads beside the messages. */
export interface Beside {
  tools?: JsonData[]
  /** Further variables of the template: `chat_template_kwargs` of the row. */
  templateArguments?: Readonly<Record<string, JsonData>>
}

/** Reads a number, as JSON may write it (1 or 1.0); undefined where it is not one. */
export function numberIn(value: unknown): number | undefined {
  const number = value instanceof Number ? value.valueOf() : value
  return typeof number === 'number' && Number.isFinite(number) ? number : undefined
}

/** The label of a row, `true` or `false`, or 1 or 0; undefined where it has none. */
export function labelOf({ label }: Fields): boolean | undefined {
  if (typeof label === 'boolean') return label
  const number = numberIn(label)
  return number === 0 || number === 1 ? number === 1 : undefined
}

/** Reads `tools` and `chat_template_kwargs`. */
export function besideOf(fields: Fields, origin: Origin): Beside {
  const tools = toolsOf(fields, origin)
  const templateArguments = argumentsOf(fields.chat_template_kwargs, origin)
  return {
    ...(tools !== undefined && { tools }),
    ...(templateArguments !== undefined && { templateArguments }),
  }
}

/** The messages of a row with what a template reads beside them. */
export function conversation(
  messages: Message[],
  fields: Fields,
  origin: Origin,
): { messages: Message[] } & Beside {
  const beside = besideOf(fields, origin)
  return { messages: withoutFiller(messages, beside.tools), ...beside }
}

function argumentsOf(value: unknown, origin: Origin): Record<string, JsonData> | undefined {
  if (isNone(value)) return undefined
  const [at, expected] = ['chat_template_kwargs', 'must be an object, or JSON of one']
  const given = typeof value === 'string' ? dataIn(value, at, origin, expected) : dataOf(value, at, origin)
  if (!isObject(given)) throw bad(origin, at, `must be an object, got ${kindOf(given)}`)
  return given instanceof Map ? Object.fromEntries(given) : ({ ...given } as Record<string, JsonData>)
}

/** Puts the turn of the column `system` before messages that do not begin with one of their own. */
export function withSystem(messages: Message[], { system }: Fields, origin: Origin): Message[] {
  if (isEmpty(system)) return messages
  const { content } = contentOf(dataOf(system, 'system', origin), 'system', origin)
  if (SYSTEM.includes(messages[0]?.role ?? '')) return messages
  return [{ role: 'system', content }, ...messages]
}

/** Converts `history` to messages; its responses are trained too, as in any conversation. */
export function historyOf({ history }: Fields, origin: Origin): Message[] {
  if (isNone(history)) return []
  const expected = 'must be a list of pairs, or JSON of one'
  const given = typeof history === 'string' ? dataIn(history, 'history', origin, expected) : history
  if (!Array.isArray(given)) throw bad(origin, 'history', `must be a list of pairs, got ${kindOf(given)}`)
  return given.flatMap((pair: unknown, i): Message[] => {
    if (!Array.isArray(pair) || pair.length !== 2 || pair.some((side) => typeof side !== 'string'))
      throw bad(origin, `history[${i}]`, 'must be a pair of strings, an instruction and its response')
    const [asked, said] = dataOf(pair, `history[${i}]`, origin) as [string, string]
    return [
      { role: 'user', content: asked },
      { role: 'assistant', content: said },
    ]
  })
}

/** Throws ERR_DATA for columns that a kind of row has no place for. */
export function refuse(fields: Fields, names: readonly string[], beside: string, origin: Origin): void {
  const found = names.find((name) => !isEmpty(fields[name]))
  if (found !== undefined) throw bad(origin, found, `has no place beside ${beside}: leave it out`)
}

/** Columns that only a template can place. */
export const OF_TEMPLATES = [
  ...['tools', 'functions', 'available_tools', 'chat_template_kwargs'],
  ...['system', 'history'],
]
