import { type Fields, nameIn, type Origin } from './fields.js'

/** Columns of text in which other rows have messages. */
const TEXTS = ['text', 'prompt', 'completion', 'chosen', 'rejected', 'instruction', 'input', 'output']

/** Python's str() of messages: keys in single quotes. */
const PRINTED = /^\s*\[\s*\{\s*'(?:role|content|from|value)'\s*:/

/** A sentence for the data report on a column of text that is likely messages; undefined where none is. */
export function printedMessages(fields: Fields, origin: Origin): string | undefined {
  const column = TEXTS.find((name) => {
    const value = fields[name]
    return typeof value === 'string' && PRINTED.test(value)
  })
  return column === undefined
    ? undefined
    : `${origin.source}:${origin.line}: ${nameIn(origin, column)} is likely a list of messages as Python prints it, and was read as text: write such lists as JSON (json.dumps)`
}
