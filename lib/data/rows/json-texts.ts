import { isObject, withoutNulls } from './fields.js'
import { messageInText, messagesInText } from './messages.js'
import { knownRole } from './roles.js'

/**
 * Reads messages in JSON, which tables have where other rows have messages; a response beside a text stays a text, but
 * where both of a pair are lists.
 */
export function readTexts(fields: Record<string, unknown>): void {
  const { completion, chosen, rejected } = fields
  const asked = messagesInText(fields.prompt)
  if (asked !== undefined) fields.prompt = asked
  const { prompt } = fields
  if (Array.isArray(prompt)) fields.completion = readResponse(completion, prompt) ?? completion
  const pair = [chosen, rejected].map((response) => readResponse(response, prompt))
  if (pair[0] !== undefined && pair[1] !== undefined) [fields.chosen, fields.rejected] = pair
}

/** A response that is a message or messages, also in JSON; undefined for a text. */
function readResponse(value: unknown, prompt: unknown): unknown {
  if (typeof value !== 'string') return value
  return messagesInText(value) ?? (typeof prompt === 'string' ? undefined : answerInText(value))
}

/** The assistant's message in a text of JSON; one of another speaker may be an answer that is JSON. */
function answerInText(text: string): unknown {
  const message = messageInText(text)
  if (!isObject(message)) return undefined
  const { role, from, value } = withoutNulls(message)
  const speaker = role ?? (value === undefined ? undefined : from)
  return typeof speaker === 'string' && knownRole(speaker) === 'assistant' ? message : undefined
}
