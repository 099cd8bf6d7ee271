import { bad, type Fields, kindOf, type Origin } from './fields.js'

/** Roles by the names that ShareGPT and its kin have for them, in lower case. */
const ROLES: Record<string, string> = {
  human: 'user',
  user: 'user',
  gpt: 'assistant',
  assistant: 'assistant',
  chatgpt: 'assistant',
  bot: 'assistant',
  chatbot: 'assistant',
  model: 'assistant',
  ai: 'assistant',
  bing: 'assistant',
  bard: 'assistant',
  claude: 'assistant',
  prompter: 'user',
  system: 'system',
  developer: 'developer',
  tool: 'tool',
  function: 'tool',
  observation: 'tool',
  observations: 'tool',
  tool_response: 'tool',
  function_response: 'tool',
}

/** Roles of turns that consist of calls. */
export const CALLS = new Set(['function_call', 'tool_call', 'tool_calls'])

/** Roles of the turn that instructs the model before a conversation. */
export const SYSTEM: readonly string[] = ['system', 'developer']

/** Fields of a message that hold its role. */
const SPEAKERS = ['role', 'from', 'author', 'speaker', 'sender']

/** The field of a message that holds its role; undefined where none does. */
export const speakerIn = (fields: Fields): string | undefined =>
  SPEAKERS.find((name) => typeof fields[name] === 'string')

/** The field of a message that holds its role, and the role. */
export function speakerOf(fields: Fields, at: string, origin: Origin): { speaker: string; role: string } {
  const speaker = speakerIn(fields) ?? 'role'
  return { speaker, role: roleOf(fields[speaker], `${at}.${speaker}`, origin) }
}

/** Role by a known name; undefined for another name. */
export function knownRole(name: string): string | undefined {
  const key = name.trim().toLowerCase().replaceAll('-', '_')
  return CALLS.has(key) ? key : Object.hasOwn(ROLES, key) ? ROLES[key] : undefined
}

/** Role of a speaker. Other names than the known ones are for the template, in `role` alone. */
function roleOf(name: unknown, at: string, origin: Origin): string {
  if (typeof name !== 'string' || name === '') throw bad(origin, at, `must be a string, got ${kindOf(name)}`)
  const known = knownRole(name)
  if (known === undefined && !at.endsWith('.role'))
    throw bad(
      origin,
      at,
      `has the unknown value ${JSON.stringify(name)}: expected user, assistant, system or tool, or a name for them`,
    )
  return known ?? name
}
