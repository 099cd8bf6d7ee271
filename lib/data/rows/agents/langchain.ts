import { REASONING } from '../content.js'
import { bad, type Fields, isEmpty, isObject, kindOf, type Origin, shown, withoutNulls } from '../fields.js'
import { speakerIn } from '../roles.js'
import { convertedCall } from '../tools.js'
import { masksIn } from '../turn-mask.js'
import { reasoningIn } from './parts.js'

/** Roles by the types of LangChain's messages. */
const ROLES: Readonly<Record<string, string>> = {
  human: 'user',
  ai: 'assistant',
  system: 'system',
  developer: 'developer',
  tool: 'tool',
  function: 'tool',
}

/**
 * A message of LangChain as a plain one: as it is stored (`{ type, data }`), as JSON.stringify writes it (`{ lc, id,
 * kwargs }`), or its fields with `type`. Any other value is returned as it is.
 */
export function unwrapped(item: unknown, at: string, origin: Origin): unknown {
  if (!isObject(item)) return item
  const fields = withoutNulls(item, ['content'])
  const { lc, kwargs, id, type, data, ...rest } = fields
  if (lc !== undefined && isObject(kwargs)) {
    const name: unknown = Array.isArray(id) ? id.at(-1) : undefined
    const role = typeof name === 'string' ? typeIn(name) : null
    if (role === null) throw bad(origin, `${at}.id`, `names no message of a known type, but ${shown(name)}`)
    return { ...rest, ...plain(withoutNulls(kwargs, ['content']), role, `${at}.kwargs`, origin) }
  }
  if (typeof type !== 'string' || speakerIn(fields) !== undefined) return item
  const known = Object.hasOwn(ROLES, type) || type === 'generic' ? type : typeIn(type)
  if (known === null) return item
  if (isObject(data))
    return { ...rest, ...plain(withoutNulls(data, ['content']), known, `${at}.data`, origin) }
  if (known === 'generic' || fields.content === undefined) return item
  return plain(fields, known, at, origin)
}

/** The type in the name of a class, such as `AIMessageChunk`; null for any other. */
function typeIn(name: string): string | null {
  const type = /^(\w+?)Message(Chunk)?$/.exec(name)?.[1]?.toLowerCase() ?? ''
  if (type === 'chat') return 'generic'
  return Object.hasOwn(ROLES, type) ? type : null
}

/** What a message says, who says it and whether it is trained, without what its model and its program noted about it. */
function plain(data: Fields, type: string, at: string, origin: Origin): Fields {
  const { content = null, name, tool_call_id: id, tool_calls: calls, invalid_tool_calls: broken } = data
  if (!isEmpty(broken))
    throw bad(
      origin,
      `${at}.invalid_tool_calls`,
      'holds calls whose arguments are not JSON: leave the message out',
    )
  const more = isObject(data.additional_kwargs) ? withoutNulls(data.additional_kwargs) : {}
  const own =
    Array.isArray(calls) && calls.length > 0
      ? calls.map((call, i) => openAiCall(call, `${at}.tool_calls[${i}]`, origin))
      : undefined
  const role = type === 'generic' ? data.role : ROLES[type]
  if (role === undefined) throw bad(origin, `${at}.role`, `must be a string, got ${kindOf(role)}`)
  // LangChain has an empty text where there is none, as its own conversion to OpenAI's API says.
  const isCall = !isEmpty(own ?? more.tool_calls ?? more.function_call)
  return withoutNulls(
    {
      role,
      name,
      content: isCall && content === '' ? null : content,
      tool_call_id: id,
      refusal: data.refusal ?? more.refusal,
      ...reasoningOf(data, more, at, origin),
      ...masksIn(data),
      tool_calls: own ?? more.tool_calls,
      function_call: own === undefined && more.tool_calls === undefined ? more.function_call : undefined,
    },
    ['content'],
  )
}

/** Reasoning of a message, which the classes of some models keep among `additional_kwargs`: a text, or an item of OpenAI. */
function reasoningOf(data: Fields, more: Fields, at: string, origin: Origin): Fields {
  const fields = [data, more].find((each) => REASONING.some((name) => !isEmpty(each[name]))) ?? {}
  return Object.fromEntries(
    REASONING.filter((name) => !isEmpty(fields[name])).flatMap((name) => {
      const value = fields[name]
      if (!isObject(value)) return [[name, value]]
      const place = `${at}${fields === more ? '.additional_kwargs' : ''}.${name}`
      const [step] = reasoningIn(withoutNulls(value), place, origin)
      return step?.kind === 'reasoning' ? [['reasoning_content', step.text]] : []
    }),
  )
}

/** A call of LangChain, `{ name, args, id }`, in OpenAI's form. */
function openAiCall(call: unknown, at: string, origin: Origin): unknown {
  if (!isObject(call)) return call
  const { name, args, id, function: called } = withoutNulls(call)
  return called !== undefined || args === undefined ? call : convertedCall({ id, name, args }, at, origin)
}
