import { isDeepStrictEqual } from 'node:util'
import { argumentsOf, parsedCall } from '../calls.js'
import { REASONING } from '../content.js'
import { bad, type Fields, isEmpty, isObject, type Origin, withoutNulls } from '../fields.js'
import type { JsonData } from '../json-data.js'
import { speakerIn, speakerOf } from '../roles.js'
import { callsOf, isNone } from '../tools.js'
import { unmasked } from '../turn-mask.js'
import { unwrapped } from './langchain.js'
import { callStep, isAgentPart, isReasoning, reasoningIn, resultStep, type Step, stepsOf } from './parts.js'
import { type Placed, type ToolNames, TurnBuilder } from './turns.js'

/**
 * Brings the messages of agents into the form of chat templates: items of OpenAI's Responses API, blocks of Anthropic,
 * messages of the AI SDK (for models and for user interfaces) and of LangChain. Reasoning, calls and results of tools
 * become `reasoning_content`, `tool_calls` and messages of the role tool; other messages stay as they are. Throws
 * ERR_DATA naming what cannot be converted.
 */
export function unified(list: readonly Placed[], origin: Origin): Placed[] {
  const items = list.map(({ item, at }): Placed => ({ item: unwrapped(item, at, origin), at }))
  const names: ToolNames = new Map()
  if (items.some(({ item }) => itemType(item) !== null)) return ofItems(items, origin, names)
  return items.flatMap(({ item, at }) => ofMessage(item, at, origin, names))
}

/** Types of the items of the Responses API that are not messages of a role. */
const ITEMS = new Set(['reasoning', 'function_call', 'function_call_output'])

/** The type of an item of the Responses API; null for a message. */
function itemType(item: unknown): string | null {
  if (!isObject(item)) return null
  const fields = withoutNulls(item)
  const { type } = fields
  if (typeof type !== 'string') return null
  if (speakerIn(fields) === undefined) return /^[a-z_]+$/.test(type) ? type : null
  return type === 'message' ? type : null
}

/** Turns of items of the Responses API: an item of reasoning and calls belong to the message beside them. */
function ofItems(items: readonly Placed[], origin: Origin, names: ToolNames): Placed[] {
  const messages: Placed[] = []
  let builder = new TurnBuilder(origin, names)
  const flush = () => {
    messages.push(...builder.end({}))
    builder = new TurnBuilder(origin, names)
  }
  for (const { item, at } of items) {
    const type = itemType(item)
    const fields = isObject(item) ? withoutNulls(item, ['content']) : {}
    const known = type === null || type === 'message' || ITEMS.has(type)
    if (!known)
      throw bad(
        origin,
        at,
        `is an item of type ${JSON.stringify(type)}, which is not supported: leave it out`,
      )
    const { train, rest } = unmasked(fields, at, origin)
    const add = (steps: readonly Step[], place = at) => {
      for (const step of steps) builder.add(step, place, {}, train)
    }
    if (type === 'function_call') add([callStep(rest, at, origin)])
    else if (type === 'function_call_output') add([resultStep(rest, at, origin)])
    else if (type === 'reasoning') {
      const steps = reasoningIn(rest, at, origin)
      if (steps.length > 0 && builder.hasText) add([{ kind: 'break' }])
      add(steps)
    } else if (isPlainAssistant(rest, at, origin)) {
      if (builder.hasText) add([{ kind: 'break' }])
      const parts = Array.isArray(rest.content) ? rest.content : [rest.content]
      for (const [i, part] of parts.entries()) {
        const place = Array.isArray(rest.content) ? `${at}.content[${i}]` : at
        add(stepsOf(part, place, origin), place)
      }
    } else {
      flush()
      const { type: _, status: _status, id: _id, ...message } = fields
      messages.push(...ofMessage(isObject(item) ? message : item, at, origin, names))
    }
  }
  flush()
  return messages
}

/** Fields of a message that is an item. */
const OF_ITEMS = new Set(['type', 'id', 'status', 'role', 'content', 'phase'])

/** Whether a message of the assistant is one of texts alone, which reasoning and calls beside it belong to. */
function isPlainAssistant(fields: Fields, at: string, origin: Origin): boolean {
  const { content, role } = fields
  if (role === undefined || speakerOf(fields, at, origin).role !== 'assistant') return false
  const isPlain = Object.entries(fields).every(([name, value]) => OF_ITEMS.has(name) || isEmpty(value))
  return isPlain && (typeof content === 'string' || Array.isArray(content))
}

/** Fields of the AI SDK's messages for user interfaces that are not part of what is said. */
const OF_INTERFACES = new Set([
  ...['id', 'parts', 'content', 'metadata', 'createdAt', 'annotations', 'data', 'revisionId'],
  ...['toolInvocations', 'reasoning', 'experimental_attachments'],
])

/** The messages that a message with parts is; a message without any of an agent's stays as it is. */
function ofMessage(item: unknown, at: string, origin: Origin, names: ToolNames): Placed[] {
  if (!isObject(item)) return [{ item, at }]
  const fields = withoutNulls(item, ['content'])
  const { content, parts, toolInvocations: invocations, refusal, ...rest } = fields
  if (Array.isArray(parts) || !isEmpty(invocations)) {
    if (!isEmpty(fields.experimental_attachments))
      throw bad(origin, `${at}.experimental_attachments`, 'is not supported: only text is trained')
    const own = Object.entries(fields).filter(([name]) => !OF_INTERFACES.has(name))
    const said = Array.isArray(parts) ? parts : oldParts(invocations, content)
    if (Array.isArray(parts)) checkContent(content, parts, at, origin)
    const list = [...reasoningBeside(fields, said, at, origin), ...said]
    return ofParts(list, Object.fromEntries(own), { at, field: `${at}.parts` }, origin, names)
  }
  if (Array.isArray(content) && content.some(isAgentPart))
    return ofParts(content, rest, { at, field: `${at}.content` }, origin, names)
  // What a model says in place of an answer.
  const refused = isEmpty(content) && typeof refusal === 'string' && refusal !== ''
  return [{ item: refused ? { ...rest, content: refusal } : item, at }]
}

/** Parts of the AI SDK's older messages, which have calls with results beside a content. */
function oldParts(invocations: unknown, content: unknown): unknown[] {
  const list = Array.isArray(invocations) ? invocations : [invocations]
  const calls = list.map((toolInvocation) => ({ type: 'tool-invocation', toolInvocation }))
  return [...calls, ...(Array.isArray(content) ? content : isEmpty(content) ? [] : [content])]
}

/** The reasoning in a field of a message for user interfaces, as a part; none where a part repeats it. */
function reasoningBeside({ reasoning }: Fields, parts: readonly unknown[], at: string, origin: Origin) {
  if (isEmpty(reasoning)) return []
  const field = `${at}.reasoning`
  const [first, ...others] = parts.flatMap((part) => reasoningOfPart(part, field, origin))
  if (first === undefined) return [{ type: 'reasoning', reasoning }]
  if (typeof reasoning !== 'string' || reasoning.trim() !== [first, ...others].join('').trim())
    throw bad(origin, field, 'differs from the reasoning of parts: leave one out')
  return []
}

const reasoningOfPart = (part: unknown, at: string, origin: Origin): string[] =>
  isReasoning(part)
    ? stepsOf(part, at, origin).flatMap((step) => (step.kind === 'reasoning' ? [step.text] : []))
    : []

/** Throws ERR_DATA where a content says something else than the parts beside it. */
function checkContent(content: unknown, parts: readonly unknown[], at: string, origin: Origin): void {
  if (isEmpty(content)) return
  const texts = parts.map((part) => {
    const { type, text } = isObject(part) ? withoutNulls(part) : {}
    return type === 'text' && typeof text === 'string' ? text : ''
  })
  if (typeof content !== 'string' || content.trim() !== texts.join('').trim())
    throw bad(origin, `${at}.content`, 'differs from the text of parts: leave one out')
}

function ofParts(
  parts: readonly unknown[],
  base: Fields,
  { at, field }: { at: string; field: string },
  origin: Origin,
  names: ToolNames,
): Placed[] {
  const { role } = speakerOf(base, at, origin)
  const steps = parts.flatMap((part, i) =>
    stepsOf(part, `${field}[${i}]`, origin).map((step) => ({ step, at: `${field}[${i}]` })),
  )
  if (role !== 'assistant') return ofOthers(steps, base, { at, role }, origin, names)
  const { own, rest } = callsBeside(base, at, origin)
  for (const { id, name } of own) if (id !== undefined) names.set(id, name)
  const thought = REASONING.find((name) => !isEmpty(rest[name]))
  const hasResults = steps.some(({ step }) => step.kind === 'result')
  const builder = new TurnBuilder(origin, names)
  for (const { step, at } of steps) {
    if (step.kind === 'reasoning' && thought !== undefined)
      throw bad(origin, at, `and ${thought} both hold reasoning: leave one out`)
    if (step.kind !== 'call' || own.length === 0) builder.add(step, at, rest)
    // LangChain repeats the calls of the content. Where a result follows one, the call stands before it.
    else if (!own.some((call) => isSame(call, step)))
      throw bad(origin, at, 'is a call that tool_calls beside it does not have: leave one out')
    else if (hasResults) builder.add(step, at, rest)
  }
  const later = hasResults ? own.filter((call) => !steps.some(({ step }) => isSame(call, step))) : own
  builder.addCalls(
    later.map(({ call }) => call),
    at,
  )
  const messages = builder.end(rest)
  // Reasoning in a field is that of the first turn.
  const turns = messages.filter(({ item }) => (item as Fields).role === 'assistant')
  if (thought !== undefined)
    for (const turn of turns.slice(1))
      turn.item = Object.fromEntries(
        Object.entries(turn.item as Fields).filter(([name]) => !REASONING.includes(name)),
      )
  if (messages.length === 0) return [{ item: { ...rest, content: null }, at }]
  return messages.map(({ item, at: place }) => ({
    item,
    at: (item as Fields).role === 'assistant' ? at : place,
  }))
}

interface Called {
  call: JsonData
  id: unknown
  name: unknown
}

/** Separates the calls in a field of a message from its other fields. */
function callsBeside(base: Fields, at: string, origin: Origin): { own: Called[]; rest: Fields } {
  const { tool_calls: list, function_call: single, ...rest } = base
  if (!isNone(list) && !isNone(single))
    throw bad(origin, `${at}.function_call`, 'and tool_calls both hold calls: leave one out')
  const [field, value] = isNone(list) ? ['function_call', single] : ['tool_calls', list]
  const calls = isNone(value) ? [] : callsOf(value, `${at}.${field}`, origin)
  const own = calls.map((call) => {
    const { id, function: called } = call as { id?: JsonData; function: { name: JsonData } }
    return { call, id, name: called.name }
  })
  return { own, rest }
}

/** Whether two calls have the same id; without ids, the same name and arguments. */
function isSame(a: Called, b: Called | Step): boolean {
  if ('kind' in b && b.kind !== 'call') return false
  if (a.id !== undefined && b.id !== undefined) return a.id === b.id
  const [one, other] = [a, b].map(({ call }) => argumentsOf(parsedCall(call)))
  return a.name === b.name && isDeepStrictEqual(one, other)
}

/** Messages of a user or a tool: results of tools, and texts as messages of the role. */
function ofOthers(
  steps: readonly { step: Step; at: string }[],
  base: Fields,
  { at, role }: { at: string; role: string },
  origin: Origin,
  names: ToolNames,
): Placed[] {
  const messages: Placed[] = []
  let texts: unknown[] = []
  const flush = () => {
    if (texts.length > 0) messages.push({ item: { ...base, content: texts }, at })
    texts = []
  }
  for (const { step, at } of steps) {
    if (step.kind === 'break') continue
    if (step.kind === 'text') texts.push(step.part)
    else if (step.kind === 'result') {
      flush()
      const name = step.message.name ?? names.get(step.message.tool_call_id)
      messages.push({ item: withoutNulls({ ...step.message, name }), at })
    } else
      throw bad(
        origin,
        at,
        `is ${step.kind === 'call' ? 'a call' : 'reasoning'}, which a turn of ${role} cannot have`,
      )
  }
  flush()
  if (messages.length === 0 && role !== 'tool') messages.push({ item: { ...base, content: null }, at })
  return messages
}
