import type { Message } from '../rows/messages.js'
import { type MarkedLayout, once, type Piece, placeOfOther, sharedLength } from './layout.js'

/** What of an assistant turn is trained. */
export interface Turn {
  /** Index of its message. */
  index: number
  /** Stretches of the rendered text, in order, the terminator included; null where the turn cannot be found. */
  stretches: [from: number, to: number][] | null
  /** The rendered turn has only a part of the generation prompt. */
  partial: boolean
  /** The mark that ends the turn is context, because generation would not stop at it. */
  unstopped: boolean
}

/** A conversation rendered by a template that can render its beginnings too. */
export interface Rendered {
  messages: readonly Message[]
  layout: MarkedLayout
  /** The template marks with `{% generation %}` what is trained. */
  marked: boolean
  /** Renders the first `count` messages, with or without the generation prompt; null where the template refuses. */
  beginning(count: number, prompt: boolean): MarkedLayout | null
  /** Generation prompt of an ordinary turn, for turns whose beginning cannot be rendered. */
  ordinaryPrompt(): string
  /** Whether generation stops at a token. */
  stops(id: number): boolean
  /** The most characters of a beginning of `text`, at most `length`, that are whole tokens of it. */
  wholeTokens(text: string, length: number): number
}

/** Finds the assistant turns in a rendered conversation, in order. */
export function turnsOf(rendered: Rendered): Turn[] {
  const finder = new TurnFinder(rendered)
  return rendered.marked ? finder.marked() : finder.unmarked()
}

/** The generation prompt of a turn, and how the text before the turn ends. */
interface Prompt {
  /** The last data before the turn. */
  last: Piece | undefined
  /** What the template writes from there to the end of the generation prompt. */
  tail: string
  /** Returns what `add_generation_prompt` adds. */
  added(): string
}

const isAssistant = ({ role }: Message) => role === 'assistant'

class TurnFinder {
  readonly #rendered: Rendered
  /** End of the turn before, its mark included. */
  #cursor = 0

  constructor(rendered: Rendered) {
    this.#rendered = rendered
  }

  unmarked(): Turn[] {
    const turns: Turn[] = []
    for (const [index, message] of this.#rendered.messages.entries()) {
      if (!isAssistant(message)) continue
      const own = this.#own(index)
      const opening = this.#opening(index, own)
      if (opening === null) {
        turns.push({ index, stretches: null, partial: false, unstopped: false })
        continue
      }
      const { from, partial } = opening
      const { stretches, unstopped, end } = this.#ending(index, from)
      this.#cursor = end
      turns.push({ index, stretches: stretches.filter(([from, to]) => to > from), partial, unstopped })
    }
    return turns
  }

  /** First stretch of a message after the turn before. */
  #own(index: number): Piece | undefined {
    return this.#rendered.layout.pieces.find(({ message, from }) => message === index && from >= this.#cursor)
  }

  /** Finds the end of the generation prompt before a turn. */
  #opening(index: number, own: Piece | undefined): { from: number; partial: boolean } | null {
    const { text, pieces } = this.#rendered.layout
    const next = own ?? pieces.find(({ message, from }) => message > index && from >= this.#cursor)
    const limit = next?.from ?? text.length
    const before = pieces.findLast(({ message, to }) => message !== index && to <= limit)
    const start = before?.to ?? 0
    const gap = text.slice(start, limit)
    const least = Math.max(this.#cursor - start, 0)
    const prompt = this.#promptOf(index)
    const follows = prompt !== null && prompt.last?.key === before?.key
    if (follows && prompt.tail.length >= least && gap.startsWith(prompt.tail))
      return { from: start + prompt.tail.length, partial: false }
    const added = prompt?.added() ?? this.#otherPrompt(index)
    const whole = added === '' ? -1 : own ? gap.lastIndexOf(added) : gap.indexOf(added, least)
    if (whole >= 0 && whole + added.length >= least)
      return { from: start + whole + added.length, partial: false }
    const part = this.#partOf(added, gap, least) ?? (follows ? this.#shared(prompt.tail, gap) : 0)
    if (part > least) return { from: start + part, partial: true }
    return own === undefined ? null : { from: own.from, partial: true }
  }

  #promptOf(index: number): Prompt | null {
    const { beginning } = this.#rendered
    const asked = beginning(index, true)
    // A template may write the generation prompt behind a message alone.
    if (asked === null || (index === 0 && asked.text === beginning(0, false)?.text)) return null
    const last = asked.pieces.at(-1)
    const tail = asked.text.slice(last?.to ?? 0)
    const added = () => {
      const plain = beginning(index, false)
      if (plain === null) return ''
      const shared = sharedLength(plain.text, asked.text)
      // A template that ends a conversation with a token of its own shares a part of the prompt's first mark with it.
      const cut = asked.marks.find(({ start, end }) => start < shared && shared < end)?.start ?? shared
      return asked.text.slice(Math.max(cut, last?.to ?? 0))
    }
    return { last, tail, added }
  }

  /** Generation prompt of another turn of the conversation, else of an ordinary one. */
  #otherPrompt(index: number): string {
    for (const [other, message] of this.#rendered.messages.entries()) {
      if (other === index || !isAssistant(message)) continue
      const added = this.#promptOf(other)?.added() ?? ''
      if (added !== '') return added
    }
    return this.#rendered.ordinaryPrompt()
  }

  /** End of the longest part of the generation prompt in a gap, in whole tokens; null where there is none. */
  #partOf(added: string, gap: string, least: number): number | null {
    let best: { at: number; length: number } | null = null
    for (let at = gap.indexOf(added[0] ?? '\0'); at >= 0; at = gap.indexOf(added[0]!, at + 1)) {
      const length = this.#shared(added, gap.slice(at))
      if (length > 0 && at + length > least && length >= (best?.length ?? 0)) best = { at, length }
    }
    return best === null ? null : best.at + best.length
  }

  #shared(prompt: string, gap: string): number {
    return this.#rendered.wholeTokens(prompt, sharedLength(prompt, gap))
  }

  /** Finds the stretches of a turn up to its mark; what the template writes of others between them is context. */
  #ending(index: number, from: number): { stretches: [number, number][]; end: number; unstopped: boolean } {
    const { layout, messages, beginning } = this.#rendered
    const all = layout.pieces.filter((piece) => piece.message === index && piece.from >= from)
    const last = index === messages.length - 1
    const plain = last || this.#endsPlainly(all, from)
    const cut = plain ? null : beginning(index + 1, false)
    const groups = this.#groups(cut === null ? all : once(all, cut, index), index, from)
    const stretches: [number, number][] = []
    let [end, unstopped, other] = [from, false, 0]
    for (const [i, [start, own]] of groups.entries()) {
      other = placeOfOther(layout.pieces, other, index, own)
      const behind = layout.pieces[other]
      const closing = last && i === groups.length - 1 ? null : this.#closing(cut, index, own)
      const ending = this.#mark(own, behind?.from ?? layout.text.length, closing)
      stretches.push([start, ending.to])
      end = ending.end
      unstopped ||= ending.unstopped
    }
    return { stretches, end, unstopped }
  }

  /** What the template writes behind the data of a turn where it is the last. */
  #closing(cut: MarkedLayout | null, index: number, own: number): string {
    const { text } = this.#rendered.layout
    const data = cut?.pieces.findLast(({ message }) => message === index)
    if (cut === null || data !== undefined) return cut?.text.slice(data!.to) ?? ''
    return cut.text.startsWith(text.slice(0, own)) ? cut.text.slice(own) : ''
  }

  /** Whether the last data of a turn is followed by a mark at which generation stops, and none stands before. */
  #endsPlainly(own: readonly Piece[], from: number): boolean {
    const { layout, stops } = this.#rendered
    const last = own.at(-1)?.to ?? from
    const mark = layout.marks.find(({ start }) => start >= last)
    if (mark === undefined || !stops(mark.id) || layout.text.slice(last, mark.start).trim() !== '')
      return false
    const inside = layout.pieces.filter((piece) => piece.from >= from && piece.from < last)
    const known = new Set(own)
    if (!inside.every((piece) => known.has(piece))) return false
    return !layout.marks.some(({ start, end, id }) => start >= from && end <= last && stops(id))
  }

  /** Stretches of a turn's data that no data of others parts; the first begins behind the generation prompt. */
  #groups(own: readonly Piece[], index: number, from: number): [from: number, to: number][] {
    const { pieces } = this.#rendered.layout
    const groups: [number, number][] = []
    let other = 0
    for (const piece of own) {
      const group = groups.at(-1)
      other = placeOfOther(pieces, other, index, group?.[1] ?? from)
      const parted = (pieces[other]?.from ?? Number.POSITIVE_INFINITY) < piece.from
      if (group === undefined) groups.push([from, piece.to])
      else if (parted) groups.push([piece.from, piece.to])
      else group[1] = piece.to
    }
    return groups.length === 0 ? [[from, from]] : groups
  }

  /**
   * Finds the mark behind the data of a turn. `closing` is what the template writes there where the turn is the last,
   * null where it is.
   */
  #mark(own: number, limit: number, closing: string | null): { to: number; end: number; unstopped: boolean } {
    const { layout, stops } = this.#rendered
    const { text, roles } = layout
    const rest = text.slice(own, limit)
    const marks = layout.marks.filter(({ start, end }) => start >= own && end <= limit)
    const shared = closing === null ? rest.length : sharedLength(rest, closing)
    let mark = marks.findLast(({ end }) => end <= own + shared)
    if (mark === undefined || !stops(mark.id)) {
      const stop = marks.find(({ id }) => stops(id))
      const header = roles.find((role) => role.from >= own)
      if (stop !== undefined && !(header !== undefined && header.from < stop.start)) mark = stop
    }
    mark ??= marks.find(({ start }) => text.slice(own, start).trim() === '')
    if (mark === undefined) {
      const to = own + rest.slice(0, shared).trimEnd().length
      return { to, end: to, unstopped: false }
    }
    if (stops(mark.id)) return { to: mark.end, end: mark.end, unstopped: false }
    return { to: mark.start, end: mark.end, unstopped: true }
  }

  /** Turns of a template with `{% generation %}`: its stretches, and the terminator behind the last of a turn. */
  marked(): Turn[] {
    const { layout, messages } = this.#rendered
    const found = new Map<number, [number, number][]>()
    let before: { index: number; to: number } | null = null
    for (const { from, to } of layout.generation) {
      const index = this.#owner(from, to, before)
      if (index === null) continue
      const stretches = found.get(index) ?? []
      found.set(index, stretches)
      const last = stretches.at(-1)
      if (last !== undefined && last[1] === from) last[1] = to
      else stretches.push([from, to])
      before = { index, to }
    }
    const turns: Turn[] = []
    for (const [index, message] of messages.entries()) {
      if (!isAssistant(message)) continue
      const stretches = found.get(index) ?? []
      const unstopped = this.#terminate(stretches)
      const filled = stretches.filter(([from, to]) => to > from)
      turns.push({ index, stretches: filled, partial: false, unstopped })
    }
    return turns
  }

  /** The assistant message that a stretch belongs to: that of its data, else the next, or the one before if still open. */
  #owner(from: number, to: number, before: { index: number; to: number } | null): number | null {
    const { layout, messages } = this.#rendered
    const assistant = (index: number) => messages[index]?.role === 'assistant'
    const inside = layout.pieces.find(
      (piece) => piece.from >= from && piece.to <= to && assistant(piece.message),
    )
    if (inside !== undefined) return inside.message
    const known = [...layout.pieces, ...layout.roles].filter(
      (piece) => piece.message >= 0 && piece.to <= from,
    )
    const last = known.reduce<Piece | null>(
      (best, piece) => (best && best.to > piece.to ? best : piece),
      null,
    )
    const at = last?.message ?? -1
    const open = (end: number) => !layout.marks.some((mark) => mark.start >= end && mark.end <= from)
    if (before !== null && before.index >= at && open(before.to)) return before.index
    if (assistant(at) && before?.index !== at) return at
    const next = messages.findIndex(
      (message, index) => index > Math.max(at, before?.index ?? -1) && isAssistant(message),
    )
    return next < 0 ? (before?.index ?? null) : next
  }

  /** Ends the last stretch of a turn at its terminator; true where generation would not stop at what follows. */
  #terminate(stretches: [number, number][]): boolean {
    const last = stretches.at(-1)
    if (last === undefined) return false
    const { text, marks } = this.#rendered.layout
    const [from, to] = last
    const body = from + text.slice(from, to).trimEnd().length
    if (marks.some(({ end, start }) => end === body && start >= from)) {
      last[1] = body
      return false
    }
    const next = marks.find(({ start }) => start >= to)
    if (next === undefined || text.slice(to, next.start).trim() !== '') return false
    if (!this.#rendered.stops(next.id)) return true
    last[1] = next.end
    return false
  }
}
