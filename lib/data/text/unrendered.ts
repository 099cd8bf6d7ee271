import { PosttrainError } from '../../errors.js'
import { REASONING } from '../rows/content.js'
import type { Message } from '../rows/messages.js'
import type { ChatTemplate, Conversation } from './chat.js'
import type { Layout } from './layout.js'

/** What a template left out of a conversation without harm. */
export interface Unrendered {
  reasoning: boolean
  content: boolean
  /** Definitions of tools. */
  tools: boolean
}

/**
 * Checks that a template rendered what the messages hold. Throws ERR_DATA naming the tool calls or the content
 * that it left out; a turn of the assistant that is not trained may be left out, and does not count.
 */
export function checkRendered(
  template: ChatTemplate,
  { messages, tools }: Conversation,
  { pieces, text }: Layout,
  isTrained: (index: number) => boolean,
): Unrendered {
  const fields = new Map<number, Set<string>>()
  for (const { message, field } of pieces) {
    const known = fields.get(message) ?? new Set()
    fields.set(message, known.add(field))
  }
  const left: Unrendered = { reasoning: false, content: false, tools: false }
  const missing = (what: string, advice: string | null = null) =>
    new PosttrainError(
      'ERR_DATA',
      `the ${template.name} template does not render ${what}: ${advice ?? 'remove it, or use a template that does'}`,
    )
  left.tools = tools !== undefined && tools.length > 0 && fields.get(-1)?.has('tools') !== true
  for (const [index, message] of messages.entries()) {
    const found = fields.get(index) ?? new Set()
    const assistant = message.role === 'assistant'
    const calls = Array.isArray(message.tool_calls) && message.tool_calls.length > 0
    const must = !assistant || isTrained(index)
    if (calls && !found.has('tool_calls') && must)
      throw missing(`messages[${index}].tool_calls`, template.callAdvice(message, tools !== undefined))
    // A template may read an instruction and its input instead of the content.
    const read = found.has('content') || found.has('instruction') || found.has('input')
    const inline = assistant ? inlineReasoning(message) : null
    const said = inline?.rest ?? textOf(message.content)
    if (said.trim() !== '' && !read) {
      if (assistant && found.has('tool_calls')) left.content = true
      else if (must) throw missing(`messages[${index}].content`)
    }
    if (!assistant || !isTrained(index)) continue
    const separate = REASONING.filter(
      (name) => typeof message[name] === 'string' && message[name].trim() !== '',
    )
    if (separate.length > 0 && !separate.some((name) => found.has(name))) left.reasoning = true
    if (
      inline !== null &&
      !pieces.some((piece) => piece.message === index && holds(text, piece, inline.reasoning))
    )
      left.reasoning = true
  }
  return left
}

const holds = (text: string, { from, to }: { from: number; to: number }, part: string) =>
  text.slice(from, to).includes(part)

/** Reasoning inside the content of a message: what stands before `</think>`; null without any. */
export function inlineReasoning(message: Message): { reasoning: string; rest: string } | null {
  const content = textOf(message.content)
  const end = content.lastIndexOf('</think>')
  if (end < 0) return null
  const before = content.slice(0, end)
  const reasoning = before.slice(before.lastIndexOf('<think>') + (before.includes('<think>') ? 7 : 0)).trim()
  return reasoning === '' ? null : { reasoning, rest: content.slice(end + '</think>'.length) }
}

/** Reasoning of a message, in a field of its own or inside the content; null without any. */
export function reasoningOf(message: Message): string | null {
  for (const name of REASONING) {
    const value = message[name]
    if (typeof value === 'string' && value.trim() !== '') return value.trim()
  }
  return inlineReasoning(message)?.reasoning ?? null
}

/** Text of a content, which may be a list of parts. */
function textOf(content: unknown): string {
  if (typeof content === 'string') return content
  if (!Array.isArray(content)) return ''
  return content.map((part) => (typeof part?.text === 'string' ? part.text : '')).join('')
}
