import { readRow } from '../../lib/data/index.js'
import { user } from './response-rows.js'

// Messages of agents that ask a tool for the rain in Ulm.

export const origin = { source: 'rows.jsonl', line: 7 }

/** Messages of a row as they are read. */
export function messagesOf(row: object): object[] {
  const example = readRow(row, origin)
  if (example.kind !== 'messages') throw new Error('a conversation expected')
  // The parts of a content are kept beside its text for templates that take parts.
  return example.messages.map(({ contentParts: _, ...message }) => message)
}

export const town = { town: 'Ulm' }
export const JSON_TEXT = '{"town":"Ulm"}'
export const call = (id: string, args = JSON_TEXT) => ({
  id,
  type: 'function',
  function: { name: 'rain', arguments: args },
})
export const text = (value: string, type = 'text') => ({ type, text: value })
export const result = (content: string, id = 'c1') => ({
  role: 'tool',
  tool_call_id: id,
  name: 'rain',
  content,
})

export const system = { role: 'system', content: 'S' }
export const asked = user('Rain?')
