import { PosttrainError } from '../../errors.js'
import type { ChatTemplate, Conversation } from './chat.js'
import { type Layout, layoutOf, type MarkedLayout } from './layout.js'
import type { Tokenizer } from './tokenizer.js'
import { type Turn, turnsOf } from './turns.js'

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
    return this.marked(layoutOf(this.#template.render(conversation, this.#tokenizer, prompt), part))
  }

  marked(layout: Layout): MarkedLayout {
    const { markers } = this.#template.tokensFor(this.#tokenizer)
    const guard = { data: layout.pieces, markers }
    const marks: MarkedLayout['marks'][number][] = []
    let guarded = 0
    for (const match of this.#tokenizer.added(layout.text, guard)) {
      const { id, special } = match
      if (id === null) guarded++
      else if (special || markers.has(id)) marks.push({ ...match, id })
    }
    return { ...layout, guard, marks, guarded }
  }

  #beginning(count: number, prompt: boolean): MarkedLayout | null {
    const key = `${count} ${prompt}`
    let known = this.#beginnings.get(key)
    if (known === undefined) {
      try {
        known = this.layout(count, prompt)
      } catch (error) {
        if (!(error instanceof PosttrainError)) throw error
        known = null
      }
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
