import { parseJson } from './exact-json.js'
import { isObject } from './fields.js'

/** The arguments of a call of a tool: an object, or JSON of one. */
export const argumentsOf = (call: unknown): unknown =>
  (call as { function?: { arguments?: unknown } } | null | undefined)?.function?.arguments

/** A call whose arguments are an object, where they are JSON of one; any other call as it is. */
export function parsedCall(call: unknown): unknown {
  const text = argumentsOf(call)
  if (typeof text !== 'string') return call
  const { function: called } = call as { function: object }
  return { ...(call as object), function: { ...called, arguments: objectIn(text) ?? text } }
}

/** The object in a JSON text, which is empty in an empty one; null for any other text. */
export function objectIn(text: string): object | null {
  if (text.trim() === '') return {}
  try {
    const { exact } = parseJson(text)
    return isObject(exact) ? exact : null
  } catch {
    return null
  }
}
