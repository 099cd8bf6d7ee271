import { jsonOf } from '../exact-json.js'
import { bad, dataOf, type Fields, isObject, kindOf, type Origin, shown, withoutNulls } from '../fields.js'
import type { JsonData } from '../json-data.js'
import { convertedCall } from '../tools.js'

/** What a part of a message says, in order. */
export type Step =
  | { kind: 'text'; part: unknown; text: string }
  | { kind: 'reasoning'; text: string }
  | { kind: 'call'; call: JsonData; id: unknown; name: unknown }
  /** A result beside its call (`inline`), or in a part of its own. */
  | { kind: 'result'; message: Fields; inline: boolean }
  /** A new call of the model begins. */
  | { kind: 'break' }

type Kind = 'text' | 'refusal' | 'reasoning' | 'call' | 'result' | 'invocation' | 'break' | 'none'

/**
 * Kinds of parts by their types: of OpenAI's two APIs, Anthropic's (`thinking`, `tool_use`, `tool_result`), the AI SDK
 * (`tool-call`, `tool-result`, `tool-NAME`, `step-start`) and LangChain (`tool_call`). `none` is what no model reads.
 */
const KINDS: Readonly<Record<string, Kind>> = {
  text: 'text',
  input_text: 'text',
  output_text: 'text',
  refusal: 'refusal',
  thinking: 'reasoning',
  reasoning: 'reasoning',
  redacted_thinking: 'none',
  'redacted-reasoning': 'none',
  tool_use: 'call',
  tool_call: 'call',
  'tool-call': 'call',
  function_call: 'call',
  tool_result: 'result',
  'tool-result': 'result',
  function_call_output: 'result',
  'dynamic-tool': 'invocation',
  'step-start': 'break',
  source: 'none',
  'source-url': 'none',
  'source-document': 'none',
  'tool-approval-request': 'none',
  'tool-approval-response': 'none',
}

function kindOfPart(part: unknown): Kind | null {
  if (typeof part === 'string') return 'text'
  if (!isObject(part)) return null
  const { type, thought, text, functionCall, functionResponse } = withoutNulls(part)
  if (typeof type === 'string') {
    if (Object.hasOwn(KINDS, type)) return KINDS[type]!
    return type.startsWith('data-') ? 'none' : type.startsWith('tool-') ? 'invocation' : null
  }
  // Parts of Gemini have no type.
  if (functionCall !== undefined) return 'call'
  if (functionResponse !== undefined) return 'result'
  return thought === true ? 'reasoning' : typeof text === 'string' ? 'text' : null
}

/** Whether a part is of a kind that only messages of agents have. */
export function isAgentPart(part: unknown): boolean {
  const kind = kindOfPart(part)
  return kind !== null && kind !== 'text'
}

export const isReasoning = (part: unknown): boolean => kindOfPart(part) === 'reasoning'

/** Reads a part; throws ERR_DATA naming one of another kind. */
export function stepsOf(item: unknown, at: string, origin: Origin): Step[] {
  const kind = kindOfPart(item)
  if (typeof item === 'string') return [{ kind: 'text', part: item, text: item }]
  const part = isObject(item) ? withoutNulls(item) : {}
  switch (kind) {
    case 'text': {
      const given = [part.text, part.value, part.content].find((each) => typeof each === 'string')
      return [{ kind: 'text', part: item, text: textOf(given ?? part.text, `${at}.text`, origin) }]
    }
    case 'refusal': {
      const text = textOf(part.refusal, `${at}.refusal`, origin)
      return [{ kind: 'text', part: { type: 'text', text }, text }]
    }
    case 'reasoning':
      return reasoningIn(part, at, origin)
    case 'call':
      return [callStep(within(part, 'functionCall', at, origin), at, origin)]
    case 'result':
      return [resultStep(within(part, 'functionResponse', at, origin), at, origin)]
    case 'invocation':
      return invocation(part, at, origin)
    case 'break':
      return [{ kind: 'break' }]
    case 'none':
      return []
    case null:
      throw bad(
        origin,
        at,
        isObject(item)
          ? `is of type ${shown(part.type)}, which is not supported: only text, reasoning, calls and results of tools are`
          : `must be a part of a message, got ${kindOf(item)}`,
      )
    default:
      throw kind satisfies never
  }
}

/** The fields of a call or a result, which a part of Gemini has in a field of its own. */
function within(part: Fields, name: string, at: string, origin: Origin): Fields {
  const value = part[name]
  if (value === undefined) return part
  if (!isObject(value)) throw bad(origin, `${at}.${name}`, `must be an object, got ${kindOf(value)}`)
  return withoutNulls(value)
}

function textOf(value: unknown, at: string, origin: Origin): string {
  if (typeof value === 'string') return value
  throw bad(origin, at, `must be a string, got ${kindOf(value)}`)
}

/** Fields that hold the reasoning of a part: a text, or a list of texts or of parts with a `text`. */
const REASONING = ['thinking', 'text', 'reasoning', 'content', 'summary']

/** Reads reasoning; none where it is encrypted. */
export function reasoningIn(part: Fields, at: string, origin: Origin): Step[] {
  for (const name of REASONING) {
    const value = part[name]
    if (value === undefined || (Array.isArray(value) && value.length === 0)) continue
    const texts = Array.isArray(value)
      ? value.map((each: unknown, i) =>
          textOf(isObject(each) ? withoutNulls(each).text : each, `${at}.${name}[${i}].text`, origin),
        )
      : [textOf(value, `${at}.${name}`, origin)]
    const text = texts.join('\n\n')
    return text.trim() === '' ? [] : [{ kind: 'reasoning', text }]
  }
  return []
}

/** Reads a call with its `call_id`, `toolCallId` or `id`, its `toolName` or `name`, and its arguments. */
export function callStep(part: Fields, at: string, origin: Origin): Step {
  const { call_id, toolCallId, id: own, toolName, name: given, rawInput } = part
  const [id, name] = [call_id ?? toolCallId ?? own, toolName ?? given]
  const field = ['input', 'args', 'arguments'].find((name) => part[name] !== undefined)
  const args = field === undefined ? { input: rawInput } : { [field]: part[field] }
  return { kind: 'call', call: convertedCall({ id, name, ...args }, at, origin), id, name }
}

/** Reads a result of a tool as a message. */
export function resultStep(part: Fields, at: string, origin: Origin): Step {
  const { call_id, toolCallId, tool_use_id, id: own, toolName, name } = part
  const content = resultOf(part, at, origin)
  return resultFor(call_id ?? toolCallId ?? tool_use_id ?? own, toolName ?? name, content, false)
}

const resultFor = (id: unknown, name: unknown, content: unknown, inline: boolean): Step => ({
  kind: 'result',
  message: withoutNulls({ role: 'tool', tool_call_id: id, name, content }),
  inline,
})

/** Content of a result: a text or text parts where it has such ones, JSON of any other value. */
function resultOf(part: Fields, at: string, origin: Origin): unknown {
  const field = ['output', 'result', 'content', 'response'].find((name) => part[name] !== undefined)
  const value = field === undefined ? '' : part[field]
  if (part.type === 'tool_result' || part.type === 'function_call_output')
    return Array.isArray(value) ? value : written(value, `${at}.${field}`, origin)
  if (field !== 'output' || !isObject(value)) return written(value, `${at}.${field}`, origin)
  const { type, value: tagged, reason } = withoutNulls(value)
  switch (type) {
    case 'text':
    case 'error-text':
      return textOf(tagged, `${at}.output.value`, origin)
    case 'content':
      return tagged
    case 'execution-denied':
      return reason ?? DENIED
    case 'json':
    case 'error-json':
      return written(tagged, `${at}.output.value`, origin)
    default:
      return written(value, `${at}.output`, origin)
  }
}

const DENIED = 'Tool execution denied.'

/** A text as it is, JSON of another value. */
const written = (value: unknown, at: string, origin: Origin) =>
  typeof value === 'string' ? value : jsonOf(dataOf(value ?? null, at, origin))

/** States in which the arguments of a call are not complete. */
const UNFINISHED: readonly unknown[] = ['partial-call', 'input-streaming']

/** Reads a call of the AI SDK's messages for user interfaces, with its result beside it. */
function invocation(part: Fields, at: string, origin: Origin): Step[] {
  const { toolInvocation: nested } = part
  const type = part.type as string
  const fields = isObject(nested) ? withoutNulls(nested) : part
  const { state, errorText, approval } = fields
  if (UNFINISHED.includes(state))
    throw bad(origin, at, `is a call whose input is not complete (state ${shown(state)}): leave it out`)
  const name =
    fields.toolName ?? (nested === undefined && type !== 'dynamic-tool' ? type.slice(5) : undefined)
  const call = callStep({ ...fields, toolName: name }, at, origin)
  if (call.kind !== 'call') return []
  const result = (content: unknown) => [call, resultFor(call.id, name, content, true)]
  if (state === 'output-error') return result(textOf(errorText, `${at}.errorText`, origin))
  if (state === 'output-denied') return result((approval as Fields | undefined)?.reason ?? DENIED)
  if (state !== 'output-available' && state !== 'result') return [call]
  return result(written(fields.output ?? fields.result, `${at}.output`, origin))
}
