import { PosttrainError } from '../../errors.js'
import type { Message } from '../rows/messages.js'
import type { ChatTemplate, Conversation } from './chat.js'
import { type Layout, layoutOf, type MarkedLayout, type Piece } from './layout.js'
import type { Tokenizer } from './tokenizer.js'
import { type Turn, turnsOf } from './turns.js'

/** Stands in the place of an empty content. */
const LETTER = 'x'

/** Renderings of one conversation: whole, with a generation prompt, and its beginnings. */
export class Renderer {
  readonly #template: ChatTemplate
  readonly #conversation: Conversation
  readonly #tokenizer: Tokenizer
  readonly #beginnings = new Map<string, MarkedLayout | null>()
  readonly #stops: ReadonlySet<number>

  constructor(template: ChatTemplate, conversation: Conversation, tokenizer: Tokenizer) {
    this.#template = template
    this.#conversation = conversation
    this.#tokenizer = tokenizer
    const { terminators } = template.tokensFor(tokenizer)
    this.#stops = new Set([...terminators, ...tokenizer.stopIds])
  }

  /** Throws ERR_DATA where the template refuses the messages. */
  layout(count: number, prompt: boolean): MarkedLayout {
    const { messages } = this.#conversation
    const part = count === messages.length ? messages : messages.slice(0, count)
    const conversation = { ...this.#conversation, messages: part }
    return this.marked(layoutOf(this.#template.render(conversation, this.#tokenizer, prompt), part), prompt)
  }

  /** Finds the marks in a rendering of the first messages, and the places of empty contents. */
  marked(layout: Layout, prompt: boolean): MarkedLayout {
    const { markers } = this.#template.tokensFor(this.#tokenizer)
    const guard = { data: layout.pieces, markers }
    const marks: MarkedLayout['marks'][number][] = []
    let guarded = 0
    for (const match of this.#tokenizer.added(layout.text, guard)) {
      const { id, special } = match
      if (id === null) guarded++
      else if (special || markers.has(id)) marks.push({ ...match, id })
    }
    const empty = this.#emptyContents(layout, prompt)
    const pieces =
      empty.length === 0 ? layout.pieces : [...layout.pieces, ...empty].sort((a, b) => a.from - b.from)
    return { ...layout, pieces, guard, marks, guarded }
  }

  /** Places of empty contents, which no character shows: where a letter stands in their stead. */
  #emptyContents({ text, messages }: Layout, prompt: boolean): Piece[] {
    const empty = new Set<number>()
    for (const [index, { content, tool_calls: calls, contentParts }] of messages.entries())
      if (content === '' && contentParts === undefined && calls === undefined) empty.add(index)
    if (empty.size === 0) return []
    const filled = messages.map((message, index) =>
      empty.has(index) ? { ...message, content: LETTER } : message,
    )
    const other = this.#attempt(filled, prompt)
    if (other === null) return []
    const found: Piece[] = []
    let [rest, at] = ['', 0]
    for (const piece of other.pieces) {
      if (!empty.has(piece.message) || piece.field !== 'content') continue
      rest += other.text.slice(at, piece.from)
      found.push({ ...piece, from: rest.length, to: rest.length })
      at = piece.to
    }
    // A template that writes something else around an empty content has no place for it.
    return rest + other.text.slice(at) === text ? found : []
  }

  #attempt(messages: readonly Message[], prompt: boolean): Layout | null {
    try {
      const conversation = { ...this.#conversation, messages: [...messages] }
      return layoutOf(this.#template.render(conversation, this.#tokenizer, prompt), messages)
    } catch (error) {
      if (!(error instanceof PosttrainError)) throw error
      return null
    }
  }

  #beginning(count: number, prompt: boolean): MarkedLayout | null {
    const key = `${count} ${prompt}`
    let known = this.#beginnings.get(key)
    if (known === undefined) {
      const layout = this.#attempt(this.#conversation.messages.slice(0, count), prompt)
      known = layout === null ? null : this.marked(layout, prompt)
      this.#beginnings.set(key, known)
    }
    return known
  }

  turns(layout: MarkedLayout): Turn[] {
    const { messages, tools } = this.#conversation
    return turnsOf({
      messages,
      layout,
      marked: this.#template.marksGeneration(tools !== undefined),
      beginning: (count, prompt) => this.#beginning(count, prompt),
      ordinaryPrompt: () => this.#template.tokensFor(this.#tokenizer).prompt,
      stops: (id) => this.#stops.has(id),
      wholeTokens: (text, length) => wholeTokens(text, length, this.#tokenizer),
    })
  }
}

function wholeTokens(text: string, length: number, tokenizer: Tokenizer): number {
  const ids = tokenizer.encode(text, { allowSpecial: true })
  for (let end = length; end > 0; end--) {
    const part = tokenizer.encode(text.slice(0, end), { allowSpecial: true })
    if (part.every((id, i) => id === ids[i])) return end
  }
  return 0
}
