import { jsonOf } from './exact-json.js'
import {
  bad,
  dataIn,
  dataOf,
  type Fields,
  isEmpty,
  isObject,
  kindOf,
  type Origin,
  withoutNulls,
} from './fields.js'
import type { JsonData } from './json-data.js'
import { schemaOf } from './schemas.js'

/** Columns of tool definitions: OpenAI's older API calls them functions, mistral-finetune available_tools. */
const TOOL_COLUMNS = ['tools', 'functions', 'available_tools'] as const

/** Whether a field that may be JSON text holds nothing. */
export const isNone = (value: unknown): boolean => isEmpty(value) || value === 'null'

/** Reads a value that may be JSON text. */
function given(value: unknown, at: string, origin: Origin, expected: string): unknown {
  return typeof value === 'string' ? dataIn(value, at, origin, expected) : value
}

function named(fields: Fields, at: string, origin: Origin): void {
  if (typeof fields.name !== 'string' || fields.name === '')
    throw bad(origin, `${at}.name`, `must be a string, got ${kindOf(fields.name)}`)
}

/**
 * Reads the tool definitions of a row, a list or JSON of one, in the form that templates expect: `{ type: 'function',
 * function: { name, description, parameters } }`. Undefined where there are none.
 */
export function toolsOf(fields: Fields, origin: Origin): JsonData[] | undefined {
  const [column, other] = TOOL_COLUMNS.filter((name) => !isNone(fields[name]))
  if (column === undefined) return undefined
  if (other !== undefined) throw bad(origin, other, `and ${column} both hold tools: leave one out`)
  const expected = 'must be a list, or JSON of one'
  const tools = given(fields[column], column, origin, expected)
  if (!Array.isArray(tools)) throw bad(origin, column, `must be a list, got ${kindOf(tools)}`)
  if (tools.length === 0) return undefined
  return tools.flatMap((tool, i) => {
    const at = `${column}[${i}]`
    const declared = declarationsIn(tool)
    if (declared === undefined) return [toolOf(tool, at, origin)]
    const [name, list] = declared
    return list.map((item, k) => toolOf(item, `${at}.${name}[${k}]`, origin))
  })
}

/** Definitions in a tool of Gemini, which holds several, with the field's name. */
function declarationsIn(tool: unknown): [name: string, list: readonly unknown[]] | undefined {
  const fields = isObject(tool) ? withoutNulls(tool) : {}
  const name = ['functionDeclarations', 'function_declarations'].find((name) => Array.isArray(fields[name]))
  return name === undefined ? undefined : [name, fields[name] as readonly unknown[]]
}

function toolOf(item: unknown, at: string, origin: Origin): JsonData {
  const tool = given(item, at, origin, 'must be an object, or JSON of one')
  if (!isObject(tool)) throw bad(origin, at, `must be an object, got ${kindOf(tool)}`)
  const fields = withoutNulls(dataOf(tool, at, origin) as object)
  if (fields.function !== undefined) {
    const definition = given(fields.function, `${at}.function`, origin, 'must be an object, or JSON of one')
    if (!isObject(definition))
      throw bad(origin, `${at}.function`, `must be an object, got ${kindOf(definition)}`)
    return { ...fields, function: definitionOf(definition, `${at}.function`, origin) } as JsonData
  }
  if (fields.name === undefined)
    throw bad(origin, at, 'must be the definition of a function, with a name or a function in it')
  const { type: _, ...definition } = fields
  return { type: 'function', function: definitionOf(definition, at, origin) }
}

function definitionOf(value: object, at: string, origin: Origin): JsonData {
  const { input_schema: schema, ...fields } = withoutNulls(value)
  named(fields, at, origin)
  // Anthropic's name of the parameters.
  const parameters = fields.parameters ?? schema
  if (parameters === undefined) return dataOf(fields, at, origin)
  const field = `${at}.${fields.parameters === undefined ? 'input_schema' : 'parameters'}`
  const read = given(parameters, field, origin, 'must be an object, or JSON of one')
  if (!isObject(read)) throw bad(origin, field, `must be an object, got ${kindOf(read)}`)
  return { ...(dataOf(fields, at, origin) as object), parameters: schemaOf(dataOf(read, field, origin)) }
}

/** Reads calls, a list or one, or JSON of them, as `{ type: 'function', function: { name, arguments } }`. */
export function callsOf(value: unknown, at: string, origin: Origin): JsonData[] {
  const calls = given(value, at, origin, 'must be a list of calls, or JSON of one')
  if (Array.isArray(calls)) return calls.map((call, i) => callOf(call, `${at}[${i}]`, origin))
  return [callOf(calls, at, origin)]
}

function callOf(item: unknown, at: string, origin: Origin): JsonData {
  const call = given(item, at, origin, 'must be a call, or JSON of one')
  if (!isObject(call)) throw bad(origin, at, `must be a call with name and arguments, got ${kindOf(call)}`)
  const { function: called, ...fields } = withoutNulls(call)
  if (called !== undefined) {
    if (!isObject(called)) throw bad(origin, `${at}.function`, `must be an object, got ${kindOf(called)}`)
    return { ...(withoutNulls(call) as object), function: invocation(called, `${at}.function`, origin) }
  }
  const { id, type: _, ...rest } = fields
  return {
    ...(id !== undefined && { id: dataOf(id, `${at}.id`, origin) }),
    type: 'function',
    function: invocation(rest, at, origin),
  }
}

/** Fields of a call that hold its arguments: `args` is LangChain's, `input` Anthropic's. */
const ARGUMENTS = ['arguments', 'parameters', 'input', 'args'] as const

/** Name and arguments of a call. JSON text stays text, for templates that join it; absent arguments are none. */
function invocation(value: object, at: string, origin: Origin): JsonData {
  const fields = withoutNulls(value)
  named(fields, at, origin)
  const name = ARGUMENTS.find((name) => fields[name] !== undefined)
  const { [name ?? '']: args = '{}', ...others } = fields
  const field = `${at}.${name ?? 'arguments'}`
  const read = typeof args === 'string' && args.trim() === '' ? {} : given(args, field, origin, OBJECT)
  if (!isObject(read)) throw bad(origin, field, `${OBJECT}, got ${kindOf(read)}`)
  // In its place, where that is its name.
  const rest = name === 'arguments' ? fields : others
  const written = typeof args === 'string' ? args : dataOf(read, field, origin)
  return { ...(dataOf(rest, at, origin) as object), arguments: written }
}

const OBJECT = 'must be an object, or JSON of one'

/** Reads a call of another dialect than OpenAI's in the form that OpenAI has: its arguments are JSON text. */
export const convertedCall = (call: Fields, at: string, origin: Origin): JsonData =>
  inText(callOf(call, at, origin))

function inText(call: JsonData): JsonData {
  const { function: called } = call as { function: { arguments: JsonData } }
  const { arguments: args } = called
  if (typeof args === 'string') return call
  return { ...(call as object), function: { ...called, arguments: jsonOf(args) } }
}

const TAGGED = /<tool_call>([\s\S]*?)<\/tool_call>/g
const THOUGHT = /^\s*<think>[\s\S]*?<\/think>\s*/

/**
 * Reads the calls in the text of a turn that consists of calls: JSON of one or a list, after a thought or within
 * `<tool_call>` tags where it has them. The rest of the text is its content.
 */
export function callsIn(
  value: unknown,
  at: string,
  origin: Origin,
): { calls: JsonData[]; content: string; noContent?: true } {
  if (typeof value !== 'string') return called(callsOf(value, at, origin), '')
  const tagged = [...value.matchAll(TAGGED)]
  if (tagged.length > 0) {
    const calls = tagged.flatMap(([, json]) => callsOf(json, at, origin))
    return called(calls, value.replace(TAGGED, '').trim())
  }
  const thought = THOUGHT.exec(value)?.[0] ?? ''
  return called(callsOf(value.slice(thought.length), at, origin), thought.trim())
}

const called = (calls: readonly JsonData[], content: string) => ({
  calls: calls.map(inText),
  content,
  ...(content === '' && { noContent: true as const }),
})
