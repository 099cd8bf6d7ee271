import { readFile } from 'node:fs/promises'
import { Template as Jinja } from '@huggingface/jinja'
import { PosttrainError } from '../errors.js'
import { instructionMessages, type Message } from './rows.js'
import type { Tokenizer } from './tokenizer.js'

/** A piece of a rendered conversation; `trained` says whether its tokens are labels. */
export interface Segment {
  text: string
  trained: boolean
}

export type TrainOn = 'assistant' | 'lastAssistant' | 'all'

/** Something that can be said to a model: messages, or one instruction. */
export type PromptRow =
  | { messages: Message[]; tools?: unknown[] }
  | { instruction: string; input?: string; system?: string }

// Marks of the spans in the rendered text; noncharacters, so that no text holds them.
const BEGIN = '\uFDD1'
const END = '\uFDD2'
const RESERVED = /[\uFDD0-\uFDD2]/u

const GENERATION = /\{%(-?)\s*(end)?generation\s*(-?)%\}/g

/**
 * A chat template in Jinja, as Hugging Face's models carry it. Spans of the assistant come from `{% generation %}`
 * where the template has it, otherwise from rendering growing prefixes.
 */
export class Template {
  readonly name: string
  /** As written, `{% generation %}` included. */
  readonly source: string
  readonly #plain: Jinja
  readonly #marked: Jinja | null

  private constructor(name: string, source: string) {
    this.name = name
    this.source = source
    const parse = (text: string) => {
      try {
        return new Jinja(text)
      } catch (cause) {
        throw new PosttrainError(
          'ERR_INVALID_FILE',
          `the ${name} template is not valid Jinja: ${(cause as Error).message}`,
          { cause },
        )
      }
    }
    // An `if` block obeys the same rules of white space as the tag it replaces.
    const replaced = (mark: (end: boolean) => string) =>
      source.replace(GENERATION, (_, left: string, end: string | undefined, right: string) => {
        return `{%${left} if true %}${mark(end !== undefined)}{% endif ${right}%}`
      })
    this.#plain = parse(replaced(() => ''))
    this.#marked = new RegExp(GENERATION.source).test(source)
      ? parse(replaced((end) => `{{ '${end ? END : BEGIN}' }}`))
      : null
  }

  static fromSource(source: string, name = 'chat'): Template {
    return new Template(name, source)
  }

  /** From a .jinja file. */
  static async load(path: string): Promise<Template> {
    let source: string
    try {
      source = await readFile(path, 'utf8')
    } catch (cause) {
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        `the template ${path} cannot be read: ${(cause as Error).message}`,
        { cause },
      )
    }
    return new Template(path, source)
  }

  /** What is saved as chat_template.jinja: without `{% generation %}`, which not every reader knows. */
  get savedSource(): string {
    return this.source.replace(GENERATION, (_, left: string, _end, right: string) =>
      left || right ? `{%${left} if true %}{% endif ${right}%}` : '',
    )
  }

  /** The text that generation is fed for a conversation, up to where the assistant begins to speak. */
  prompt(row: PromptRow, tokenizer?: Tokenizer): string {
    const { messages, tools } =
      'messages' in row ? row : { messages: instructionMessages(row), tools: undefined }
    return this.#render(this.#plain, messages, tools, tokenizer, true)
  }

  /** The id that ends an assistant's turn; null where the template has no such token. */
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

  /** The rendered conversation cut where training begins and ends; it ends at the last turn's terminator. */
  segments(
    messages: Message[],
    tokenizer: Tokenizer,
    options: { trainOn: TrainOn; tools?: unknown[] | undefined },
  ): Segment[] {
    const spans =
      this.#marked === null
        ? this.#growingSpans(messages, tokenizer, options.tools)
        : this.#markedSpans(this.#marked, messages, tokenizer, options.tools)
    const assistants = messages.filter(({ role }) => role === 'assistant')
    if (spans.spans.length !== assistants.length) {
      throw new PosttrainError(
        'ERR_DATA',
        `the ${this.name} template marks ${spans.spans.length} spans for ${assistants.length} assistant turns`,
      )
    }
    const chosen = spans.spans.filter((_, i) => {
      if (assistants[i]?.train === false) return false
      return options.trainOn !== 'lastAssistant' || i === assistants.length - 1
    })
    const end =
      messages.at(-1)?.role === 'assistant'
        ? (spans.spans.at(-1)?.[1] ?? spans.text.length)
        : spans.text.length
    if (options.trainOn === 'all') return [{ text: spans.text.slice(0, end), trained: true }]
    const segments: Segment[] = []
    let at = 0
    for (const [from, to] of chosen) {
      segments.push(
        { text: spans.text.slice(at, from), trained: false },
        { text: spans.text.slice(from, to), trained: true },
      )
      at = to
    }
    if (at < end) segments.push({ text: spans.text.slice(at, end), trained: false })
    return segments.filter(({ text }) => text !== '')
  }

  #render(
    template: Jinja,
    messages: Message[],
    tools: unknown[] | undefined,
    tokenizer: Tokenizer | undefined,
    prompt: boolean,
  ): string {
    const guarded = messages.map((message) => guardStrings(message, tokenizer) as Message)
    try {
      return template.render({
        messages: guarded,
        add_generation_prompt: prompt,
        bos_token: tokenizer?.bosToken ?? '',
        eos_token: tokenizer?.eosToken ?? '',
        pad_token: tokenizer?.padToken ?? '',
        ...(tools === undefined ? {} : { tools }),
      })
    } catch (cause) {
      throw new PosttrainError(
        'ERR_DATA',
        `the ${this.name} template refused the conversation: ${(cause as Error).message}`,
        { cause },
      )
    }
  }

  #markedSpans(template: Jinja, messages: Message[], tokenizer: Tokenizer, tools: unknown[] | undefined) {
    const marked = this.#render(template, messages, tools, tokenizer, false)
    const spans: [number, number][] = []
    let text = ''
    let open: number | null = null
    for (const piece of marked.split(/([\uFDD1\uFDD2])/u)) {
      if (piece === BEGIN) open = text.length
      else if (piece === END && open !== null) {
        spans.push([open, text.length])
        open = null
      } else text += piece
    }
    return {
      text,
      spans: spans.map(([from, to]): [number, number] => [from, this.#terminated(text, from, to, tokenizer)]),
    }
  }

  #growingSpans(messages: Message[], tokenizer: Tokenizer, tools: unknown[] | undefined) {
    const text = this.#render(this.#plain, messages, tools, tokenizer, false)
    const spans: [number, number][] = []
    for (const [i, message] of messages.entries()) {
      if (message.role !== 'assistant') continue
      const prompt = this.#render(this.#plain, messages.slice(0, i), tools, tokenizer, true)
      const turn = this.#render(this.#plain, messages.slice(0, i + 1), tools, tokenizer, false)
      if (!turn.startsWith(prompt)) throw this.#unstable()
      const end = this.#terminated(turn, prompt.length, prompt.length, tokenizer, message.content)
      if (!text.startsWith(turn.slice(0, end))) throw this.#unstable()
      spans.push([prompt.length, end])
    }
    return { text, spans }
  }

  #unstable(): PosttrainError {
    return new PosttrainError(
      'ERR_DATA',
      `the ${this.name} template renders earlier turns differently once more follow, so that no mask can be found: train on the last answer of each conversation, or mark the answers with {% generation %}`,
    )
  }

  /**
   * The end of a span with its terminator: the first special token after what was said. Without one, the span ends
   * where the text does, less trailing white space.
   */
  #terminated(text: string, from: number, to: number, tokenizer: Tokenizer, content?: string): number {
    const said =
      content === undefined
        ? to
        : Math.max(
            to,
            text.indexOf(tokenizer.guard(content).trim(), from) + tokenizer.guard(content).trim().length,
          )
    if (content === undefined && tokenizer.endsWithSpecial(text.slice(from, to).trimEnd()))
      return from + text.slice(from, to).trimEnd().length
    const next = tokenizer.firstSpecial(text, said)
    if (next !== null && text.slice(said, next.start).trim() === '') return next.end
    return content === undefined ? to : said
  }
}

function guardStrings(value: unknown, tokenizer: Tokenizer | undefined): unknown {
  if (typeof value === 'string') {
    if (RESERVED.test(value))
      throw new PosttrainError('ERR_DATA', 'a text holds the Unicode noncharacters U+FDD0 to U+FDD2')
    return tokenizer === undefined ? value : tokenizer.guard(value)
  }
  if (Array.isArray(value)) return value.map((item) => guardStrings(item, tokenizer))
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [key, guardStrings(item, tokenizer)]),
    )
  }
  return value
}

const turnLoop = (user: string, assistant: string) =>
  `{% for message in messages %}{% if message['role'] == 'user' %}${user}` +
  `{% elif message['role'] == 'assistant' %}${assistant}` +
  `{% else %}{{ message['content'] + '\\n' }}{% endif %}{% endfor %}`

/** `User: {instruction}\nAssistant: {output}{eos}`, with `\n{input}` after the instruction where there is one. */
export const plainTemplate: Template = Template.fromSource(
  turnLoop(
    "{{ 'User: ' + message['content'] + '\\n' }}",
    "{{ 'Assistant:' }}{% generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}{% if not loop.last %}{{ '\\n' }}{% endif %}",
  ) + "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
  'plain',
)

/** Stanford Alpaca's two forms, with and without an input. */
export const alpacaTemplate: Template = Template.fromSource(
  turnLoop(
    "{% if message['input'] %}{{ 'Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\\n\\n### Instruction:\\n' + message['instruction'] + '\\n\\n### Input:\\n' + message['input'] + '\\n\\n' }}" +
      "{% else %}{{ 'Below is an instruction that describes a task. Write a response that appropriately completes the request.\\n\\n### Instruction:\\n' + message['content'] + '\\n\\n' }}{% endif %}",
    "{{ '### Response:\\n' }}{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}{% if not loop.last %}{{ '\\n\\n' }}{% endif %}",
  ) + "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}",
  'alpaca',
)

/**
 * The template of a name: `chat` (the tokenizer's own), `plain`, `alpaca`, or the path of a .jinja file. Without a
 * name: the tokenizer's own, else plain.
 */
export async function templateOf(
  choice: string | Template | undefined,
  tokenizer: Tokenizer,
): Promise<Template> {
  if (choice instanceof Template) return choice
  if (choice === 'plain') return plainTemplate
  if (choice === 'alpaca') return alpacaTemplate
  if (choice === undefined || choice === 'chat') {
    if (tokenizer.chatTemplate !== null) return Template.fromSource(tokenizer.chatTemplate)
    if (choice === undefined) return plainTemplate
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      "the model has no chat template: use template 'plain', 'alpaca' or a .jinja file",
    )
  }
  return await Template.load(choice)
}
