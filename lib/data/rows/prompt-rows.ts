import type { Beside } from './columns.js'
import { bad, isEmpty, type Origin } from './fields.js'
import type { Message } from './messages.js'
import { type Columns, columnsOf } from './names.js'
import { preferencePrompt } from './preference-rows.js'
import { exampleOf, type StringColumns } from './rows.js'

/** A prompt for rollouts. Any other kind of row serves too, without its response. */
export interface PromptOnlyRow {
  prompt: string | Message[]
  [column: string]: unknown
}

/** The prompt in a row, without its response: a text, or messages for the template. */
export type PromptContent = ({ text: string } & StringColumns) | ({ messages: Message[] } & Beside)

/**
 * Reads the prompt of a row of any kind: `prompt` (a text or messages), `instruction`, `messages` or `conversations`,
 * or the shared beginning of `chosen` and `rejected`; a final response is dropped. Throws ERR_DATA.
 */
export const readPrompt = (row: unknown, origin: Origin): PromptContent => promptIn(columnsOf(row, origin))

/** Prompts beside a text that is trained as it is where rows are trained. */
const BESIDE_TEXTS = ['problem', 'input', 'inputs']

/** `readPrompt` for the columns of a row. */
export function promptIn({ fields, at: origin }: Columns): PromptContent {
  const shared = preferencePrompt(fields, origin)
  if (shared !== null) return shared
  const { instruction, prompt } = fields
  const completion = Array.isArray(prompt) ? [{ role: 'assistant', content: '' }] : ''
  // The reader of training rows requires a response: add an empty one and remove it afterwards.
  const completed = {
    ...fields,
    ...(instruction !== undefined && { output: '' }),
    ...(prompt !== undefined && { completion }),
  }
  const example = exampleOf(completed, origin)
  if (example.kind === 'text') {
    const asked = BESIDE_TEXTS.find((name) => !isEmpty(fields[name]))
    if (asked === undefined)
      throw bad(origin, 'text', 'is not a prompt: expected prompt, instruction or messages')
    const { [asked]: value, ...rest } = fields
    return promptIn({
      fields: { ...rest, prompt: value },
      at: { ...origin, names: { ...origin.names, prompt: asked } },
    })
  }
  if (example.kind === 'completion') {
    const { kind: _, prompt: asked, completion: _completion, weight: _weight, ...columns } = example
    return { text: asked, ...columns }
  }
  const { kind: _, messages, weight: _weight, prefill, ...beside } = example
  if (prefill !== undefined)
    return { messages: [...messages.slice(0, prefill.index), prefill.message], ...beside }
  const promptMessages = messages.at(-1)?.role === 'assistant' ? messages.slice(0, -1) : messages
  if (promptMessages.length === 0) throw bad(origin, 'messages', 'has a response but no prompt')
  return { messages: promptMessages, ...beside }
}

/** Moves the prompt's trailing spaces (U+0020) to the completion, since generation feeds the prompt without them. */
export function splitPrompt(prompt: string, completion: string): [string, string] {
  const kept = prompt.replace(/ +$/, '')
  return [kept, prompt.slice(kept.length) + completion]
}
