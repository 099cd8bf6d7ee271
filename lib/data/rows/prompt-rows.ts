import { bad, fieldsOf, type Origin } from './fields.js'
import type { Message } from './messages.js'
import { preferencePrompt } from './preference-rows.js'
import { exampleOf } from './rows.js'

/** A prompt to be answered in a rollout; any other kind of row is one too, its answer left out. */
export interface PromptOnlyRow {
  prompt: string | Message[]
  [column: string]: unknown
}

/** What is asked in a row, without its answer: a text as it stands, or messages for the template. */
export type Asked = { text: string } | { messages: Message[]; tools?: unknown[] }

/**
 * The prompt of a row of any kind: `prompt` alone (a text or messages), `instruction`, `messages` or `conversations`,
 * or what `chosen` and `rejected` have in common; a last answer that is there is left out. Throws ERR_DATA.
 */
export function readPrompt(row: unknown, origin: Origin): Asked {
  const fields = fieldsOf(row, origin)
  const compared = preferencePrompt(fields, origin)
  if (compared !== null) return compared
  const { instruction, prompt } = fields
  const completion = Array.isArray(prompt) ? [{ role: 'assistant', content: '' }] : ''
  // The reader of training rows wants an answer: an empty one stands in for it, and is taken off again.
  const answered = {
    ...fields,
    ...(instruction !== undefined && { output: '' }),
    ...(prompt !== undefined && { completion }),
  }
  const example = exampleOf(answered, origin)
  if (example.kind === 'text')
    throw bad(origin, 'text', 'is no prompt: expected prompt, instruction or messages')
  if (example.kind === 'completion') return { text: splitPrompt(example.prompt, '')[0] }
  const { messages, tools } = example
  const asked = messages.at(-1)?.role === 'assistant' ? messages.slice(0, -1) : messages
  if (asked.length === 0) throw bad(origin, 'messages', 'has an answer and nothing that was asked')
  return { messages: asked, ...(tools !== undefined && { tools }) }
}

/** The prompt's trailing spaces (U+0020) belong to the completion, as generation feeds the prompt without them. */
export function splitPrompt(prompt: string, completion: string): [string, string] {
  const kept = prompt.replace(/ +$/, '')
  return [kept, prompt.slice(kept.length) + completion]
}
