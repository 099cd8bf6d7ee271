import type { Template as Jinja } from '@huggingface/jinja'
import { is, needArgument, needOptions } from '../../arguments.js'
import { PosttrainError } from '../../errors.js'
import { LIMITS, readText } from '../../files/read.js'
import { instructionMessages, type Message } from '../rows/messages.js'
import { parseTemplate, type TemplateForms, withoutGeneration } from './jinja.js'
import { cutMarks, END, guardStrings, spanOf, type Turn, terminated, turnEnd } from './spans.js'
import { Tokenizer } from './tokenizer.js'

/** A piece of a rendered conversation; `trained`: its tokens are labels. */
export interface Segment {
  text: string
  trained: boolean
}

const MESSAGES = is.listOf(is.object, 'a list of messages')

export type TrainOn = 'assistant' | 'lastAssistant' | 'all'

/** A prompt: messages, or one instruction. */
export type PromptRow =
  | { messages: Message[]; tools?: unknown[] }
  | { instruction: string; input?: string; system?: string }

/**
 * A chat template in Jinja, as in Hugging Face's models. The spans of assistant turns come from `{% generation %}`
 * where the template has it, otherwise from rendering growing prefixes.
 */
export class Template {
  readonly name: string
  /** As written, `{% generation %}` included. */
  readonly source: string
  readonly #prefixed: boolean
  #forms: TemplateForms | null

  private constructor(name: string, source: string, prefixed: boolean, forms: TemplateForms | null) {
    this.name = name
    this.source = source
    this.#prefixed = prefixed
    this.#forms = forms
  }

  /** Parsed once. */
  get #parsed(): TemplateForms {
    this.#forms ??= parseTemplate(this.name, this.source)
    return this.#forms
  }

  /**
   * @param options.prefixed encodes the rendered text as plain text, after the tokenizer's own prefix (a BOS token for
   * some families); default false.
   */
  static fromSource(source: string, name = 'chat', options: { prefixed?: boolean } = {}): Template {
    needArgument('Template.fromSource', 'the source', source, is.text)
    needOptions('Template.fromSource', options, { prefixed: is.flag })
    return new Template(name, source, options.prefixed ?? false, parseTemplate(name, source))
  }

  /** @internal A template of this package, known to be valid and therefore parsed at first use. */
  static own(source: string, name: string): Template {
    return new Template(name, source, true, null)
  }

  /** Reads a .jinja file. */
  static async load(path: string): Promise<Template> {
    needArgument('Template.load', 'the path', path, is.path)
    const source = await readText(path, LIMITS.template)
    return Template.fromSource(source, path)
  }

  get prefixed(): boolean {
    return this.#prefixed
  }

  /** Source of a saved chat_template.jinja, without `{% generation %}`, which not every reader supports. */
  get savedSource(): string {
    return withoutGeneration(this.source)
  }

  /** Saved source for the models of a tokenizer, with the prefix that it puts before plain texts. */
  sourceFor(tokenizer: Tokenizer): string {
    const prefix = this.prefixIds(tokenizer).map((id) => tokenizer.idToToken(id) ?? '')
    return prefix.map((token) => `{{ ${JSON.stringify(token)} }}`).join('') + this.savedSource
  }

  /**
   * Renders a conversation up to the start of the response. Only with a tokenizer are special tokens in the messages
   * guarded, so that they stay text.
   */
  prompt(row: PromptRow, tokenizer?: Tokenizer): string {
    if (tokenizer !== undefined) this.prefixIds(tokenizer)
    const { messages, tools } = promptMessages(row)
    return this.#render(this.#parsed.plain, messages, tools, tokenizer, true)
  }

  /** Input ids of generation: exactly those before the response in training. */
  promptIds(row: PromptRow, tokenizer: Tokenizer): Int32Array {
    this.prefixIds(tokenizer)
    const { messages, tools } = promptMessages(row)
    const text = this.#render(this.#parsed.plain, messages, tools, tokenizer, true)
    const ids = [...this.prefixIds(tokenizer)]
    let at = 0
    const encode = (to: number) => {
      for (const id of tokenizer.encode(text.slice(at, to), { allowSpecial: true, first: at === 0 }))
        ids.push(id)
      at = to
    }
    for (const { span } of this.#spans(messages, tokenizer, tools)) {
      if (span === null || !text.startsWith(span.text, span.from)) continue
      encode(span.from)
      encode(span.to)
    }
    encode(text.length)
    return Int32Array.from(ids)
  }

  /** Prefix that the tokenizer puts before plain text; none for chat templates, which write their own. */
  prefixIds(tokenizer: Tokenizer): readonly number[] {
    needArgument('the template', 'the tokenizer', tokenizer, is.a(Tokenizer, 'a Tokenizer'))
    return this.#prefixed ? tokenizer.prefixIds : []
  }

  /** Id of the token that ends an assistant turn; null where the template has none. */
  terminator(tokenizer: Tokenizer): number | null {
    const probe = [
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'b' },
    ]
    const last = this.segments(probe, tokenizer, { trainOn: 'assistant' }).at(-1)
    if (last === undefined) return null
    const id = tokenizer.encode(last.text, { allowSpecial: true }).at(-1)
    return id !== undefined && tokenizer.isSpecial(id) ? id : null
  }

  /**
   * Splits the rendered conversation where responses begin and end, trained or not, as promptIds() does; it ends at the
   * last turn's terminator. Throws ERR_DATA where the template refuses the conversation, or where a turn to train cannot
   * be found in the rendered text.
   */
  segments(
    messages: Message[],
    tokenizer: Tokenizer,
    options: { trainOn: TrainOn; tools?: unknown[] | undefined },
  ): Segment[] {
    needArgument('segments', 'the options', options, is.object)
    const spans = this.#spans(messages, tokenizer, options.tools)
    const text = this.#render(this.#parsed.plain, messages, options.tools, tokenizer, false)
    const all = options.trainOn === 'all'
    const segments: Segment[] = []
    let at = 0
    for (const [i, { message, span }] of spans.entries()) {
      const wanted =
        message.train !== false && (options.trainOn !== 'lastAssistant' || i === spans.length - 1)
      if (span === null) {
        if (wanted || all) throw this.#unstable()
        continue
      }
      segments.push(
        { text: text.slice(at, span.from), trained: all },
        { text: text.slice(span.from, span.to), trained: wanted },
      )
      at = span.to
    }
    // Drops what the template adds after the last response's terminator.
    if (messages.at(-1)?.role !== 'assistant' || spans.at(-1)?.span === null) {
      segments.push({ text: text.slice(at), trained: all })
    }
    return segments.filter((segment) => segment.text !== '')
  }

  #render(
    template: Jinja,
    messages: readonly Message[],
    tools: unknown[] | undefined,
    tokenizer: Tokenizer | undefined,
    prompt: boolean,
  ): string {
    return this.#raw(template, guardStrings(messages, tokenizer) as Message[], tools, tokenizer, prompt)
  }

  #raw(
    template: Jinja,
    messages: readonly Message[],
    tools: unknown[] | undefined,
    tokenizer: Tokenizer | undefined,
    prompt: boolean,
  ): string {
    try {
      return template.render({
        messages,
        add_generation_prompt: prompt,
        bos_token: tokenizer?.bosToken ?? '',
        eos_token: tokenizer?.eosToken ?? '',
        pad_token: tokenizer?.padToken ?? '',
        // null, not undefined, as in transformers.
        tools: tools ?? null,
        documents: null,
      })
    } catch (cause) {
      throw new PosttrainError(
        'ERR_DATA',
        `the ${this.name} template refused the conversation: ${(cause as Error).message}`,
        { cause },
      )
    }
  }

  /** Finds the assistant turns in the rendered text; the span is null where a turn cannot be found. */
  #spans(messages: Message[], tokenizer: Tokenizer, tools: unknown[] | undefined): Turn[] {
    needArgument('the template', 'the messages', messages, MESSAGES)
    needArgument('the template', 'the tokenizer', tokenizer, is.a(Tokenizer, 'a Tokenizer'))
    if (!messages.some(({ role }) => role === 'assistant')) return []
    const { marked } = this.#parsed
    return marked === null
      ? this.#growingSpans(messages, tokenizer, tools)
      : this.#markedSpans(marked, messages, tokenizer, tools)
  }

  #markedSpans(
    template: Jinja,
    messages: Message[],
    tokenizer: Tokenizer,
    tools: unknown[] | undefined,
  ): Turn[] {
    const { text, spans } = cutMarks(this.#render(template, messages, tools, tokenizer, false))
    const assistants = messages.filter(({ role }) => role === 'assistant')
    if (spans.length !== assistants.length) {
      throw new PosttrainError(
        'ERR_DATA',
        `the ${this.name} template marks ${spans.length} spans for ${assistants.length} assistant turns`,
      )
    }
    return assistants.map((message, i) => {
      const [from, to] = spans[i]!
      return { message, span: spanOf(text, from, terminated(text, from, to, tokenizer)) }
    })
  }

  #growingSpans(messages: Message[], tokenizer: Tokenizer, tools: unknown[] | undefined): Turn[] {
    const text = this.#render(this.#parsed.plain, messages, tools, tokenizer, false)
    const turns: Turn[] = []
    for (const [i, message] of messages.entries()) {
      if (message.role !== 'assistant') continue
      const from = this.#beginning(messages.slice(0, i), tokenizer, tools)
      if (from === null || !text.startsWith(from)) {
        turns.push({ message, span: null })
        continue
      }
      const grown = this.#render(this.#parsed.plain, messages.slice(0, i + 1), tools, tokenizer, false)
      let to = grown.startsWith(from) ? turnEnd(grown, from.length, message, tokenizer) : -1
      if (to < 0 || !text.startsWith(grown.slice(0, to))) {
        to = this.#contentEnd(text, i, messages, tokenizer, tools)
      }
      turns.push({ message, span: to < from.length ? null : spanOf(text, from.length, to) })
    }
    return turns
  }

  /** Renders the text before a turn; null where a template refuses an empty conversation. */
  #beginning(messages: Message[], tokenizer: Tokenizer, tools: unknown[] | undefined): string | null {
    try {
      return this.#render(this.#parsed.plain, messages, tools, tokenizer, true)
    } catch (error) {
      if (messages.length > 0) throw error
      return null
    }
  }

  /** Finds the end of turn `i` by a mark after its content, for templates that render the last turn differently; -1 if lost. */
  #contentEnd(
    text: string,
    i: number,
    messages: Message[],
    tokenizer: Tokenizer,
    tools: unknown[] | undefined,
  ): number {
    const guarded = guardStrings(messages, tokenizer) as Message[]
    const marked = guarded.map((message, k) =>
      k === i ? { ...message, content: `${message.content.trimEnd()}${END}` } : message,
    )
    const rendered = this.#raw(this.#parsed.plain, marked, tools, tokenizer, false)
    const end = rendered.indexOf(END)
    if (end < 0 || rendered.replaceAll(END, '') !== text) return -1
    return terminated(text, end, end, tokenizer)
  }

  #unstable(): PosttrainError {
    return new PosttrainError(
      'ERR_DATA',
      `the ${this.name} template renders an earlier turn differently from the prompt of generation, so its mask cannot be found: train on the last response of each conversation, or mark the responses with {% generation %}`,
    )
  }
}

function promptMessages(row: PromptRow): { messages: Message[]; tools?: unknown[] } {
  needArgument('the template', 'the row', row, is.object)
  if ('messages' in row) return row
  const { instruction, input = '', system = '' } = row
  return { messages: instructionMessages({ instruction, input, system }) }
}
