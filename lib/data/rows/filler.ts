import { isObject } from './fields.js'
import type { JsonData } from './json-data.js'
import type { Message } from './messages.js'
import { entriesOf } from './schemas.js'

/**
 * Removes the null arguments that a table puts into calls, where other rows have an argument of that name. A call has
 * them if one is null that its tool does not define; a null of a call without such ones is a value. Arguments in JSON text
 * stay as they are: a table has no columns for them.
 */
export function withoutFiller(messages: Message[], tools: readonly JsonData[] | undefined): Message[] {
  if (tools === undefined || !messages.some(({ tool_calls: calls }) => Array.isArray(calls))) return messages
  const known = new Map(tools.flatMap(parametersOf))
  return messages.map((message) => {
    const { tool_calls: calls } = message
    if (!Array.isArray(calls)) return message
    return { ...message, tool_calls: calls.map((call) => cleanedCall(call as JsonData, known)) }
  })
}

const field = (value: JsonData | undefined, name: string): JsonData | undefined =>
  isObject(value) ? entriesOf(value).find(([key]) => key === name)?.[1] : undefined

/** Name of a tool, and names of the parameters that it defines. */
function parametersOf(tool: JsonData): [string, ReadonlySet<string>][] {
  const definition = field(tool, 'function')
  const [name, properties] = [field(definition, 'name'), field(field(definition, 'parameters'), 'properties')]
  if (typeof name !== 'string' || !isObject(properties)) return []
  return [[name, new Set(entriesOf(properties).map(([key]) => key))]]
}

function cleanedCall(call: JsonData, known: ReadonlyMap<string, ReadonlySet<string>>): JsonData {
  const called = field(call, 'function')
  const [name, args] = [field(called, 'name'), field(called, 'arguments')]
  const parameters = known.get(String(name))
  if (!isObject(called) || !isObject(args) || parameters === undefined) return call
  const entries = entriesOf(args)
  if (!entries.some(([key, value]) => value === null && !parameters.has(key))) return call
  const kept = entries.filter(([, value]) => value !== null) as [string, JsonData][]
  const cleaned = args instanceof Map ? new Map(kept) : Object.fromEntries(kept)
  return { ...(call as object), function: { ...(called as object), arguments: cleaned } }
}
