import type { Message } from '../rows/messages.js'
import type { AddedMatch, Guard } from './added-tokens.js'
import type { Rendering } from './jinja/rendering.js'

/** A stretch of rendered text that comes from data. */
export interface Piece {
  from: number
  to: number
  /** Index of its message; -1 for tools and other variables. */
  message: number
  /** Name of the variable, or of the message's field. */
  field: string
  /** The whole path. */
  key: string
}

/** Rendered text with the data in it. */
export interface Layout {
  text: string
  messages: readonly Message[]
  /** In order. */
  pieces: readonly Piece[]
  /** Names of roles that every template knows: they count as the template's own words. */
  roles: readonly Piece[]
  generation: Rendering['generation']
}

/** A layout with the tokens that mark turns in it. */
export interface MarkedLayout extends Layout {
  guard: Guard
  /** Special tokens and turn markers that the template wrote, in order. */
  marks: readonly (AddedMatch & { id: number })[]
  /** In order, with a piece of no length where an empty content stands. */
  pieces: readonly Piece[]
  /** Pieces of data that would be such a token if they were not guarded. */
  guarded: number
}

/** Variables that the tokenizer gives, not the data. */
const TOKENS = new Set(['bos_token', 'eos_token', 'pad_token', 'unk_token'])
const ROLES = new Set([
  'system',
  'developer',
  'user',
  'assistant',
  'tool',
  'function',
  'model',
  'ipython',
  'observation',
  'environment',
])

export function layoutOf({ text, runs, generation }: Rendering, messages: readonly Message[]): Layout {
  const pieces: Piece[] = []
  const roles: Piece[] = []
  for (const { from, to, origin } of runs) {
    if (origin === null || from === to) continue
    const [root, index, name] = origin.path
    if (root === undefined || TOKENS.has(String(root))) continue
    const inMessage = root === 'messages' && typeof index === 'number'
    const message = inMessage ? index : -1
    const field = inMessage ? String(name ?? '') : String(root)
    const piece = { from, to, message, field, key: origin.path.join('\0') }
    const role = field === 'role' && origin.part === 'value' && ROLES.has(messages[message]?.role ?? '')
    if (role) roles.push(piece)
    else pieces.push(piece)
  }
  return { text, messages, pieces, roles, generation }
}

/** Length of the common beginning of two texts. */
export function sharedLength(a: string, b: string): number {
  const most = Math.min(a.length, b.length)
  let length = 0
  while (length < most && a.charCodeAt(length) === b.charCodeAt(length)) length++
  return length
}

/** Pieces of a message that stand in a rendering where it is the last, as often as there. */
export function once(own: readonly Piece[], cut: MarkedLayout, index: number): Piece[] {
  const left = new Map<string, number>()
  for (const { message, key } of cut.pieces) if (message === index) left.set(key, (left.get(key) ?? 0) + 1)
  return own.filter(({ key }) => {
    const count = left.get(key)
    if (count === undefined) return true
    left.set(key, count - 1)
    return count > 0
  })
}

/** Place of the first piece from `at` on that is of another message and begins at `from` or later. */
export function placeOfOther(pieces: readonly Piece[], at: number, index: number, from: number): number {
  let place = at
  while (place < pieces.length && (pieces[place]!.message === index || pieces[place]!.from < from)) place++
  return place
}
