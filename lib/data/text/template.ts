import { is, needArgument, needOptions } from '../../arguments.js'
import { PosttrainError } from '../../errors.js'
import { LIMITS, readText } from '../../files/read.js'
import type { JsonData } from '../rows/json-data.js'
import { instructionMessages, type Message } from '../rows/messages.js'
import type { Conversation, TemplateArguments, TemplateTokens } from './chat.js'
import { conversationOf, promptOf, type RenderedConversation, type SegmentOptions } from './conversation.js'
import { attempted, Forms } from './forms.js'
import { withoutGeneration } from './generation.js'
import { JinjaTemplate } from './jinja/index.js'
import type { Rendering } from './jinja/rendering.js'
import { CALLED } from './probes.js'
import { tokensOf } from './template-tokens.js'
import { Tokenizer } from './tokenizer.js'

export type { Conversation, TemplateArguments } from './chat.js'
export type { Segment, TrainOn } from './conversation.js'

const MESSAGES = is.listOf(is.object, 'a list of messages')

/** A prompt: messages, or one instruction. */
export type PromptRow =
  | { messages: Message[]; tools?: unknown[]; templateArguments?: TemplateArguments }
  | { instruction: string; input?: string; system?: string }

/** What a template is made of, as data for a worker. */
export interface TemplateSpec {
  source: string
  name: string
  /** Encodes after the tokenizer's own prefix. */
  prefixed: boolean
  /** Template of rows with tools, where it is another one. */
  toolSource: string | null
  arguments: TemplateArguments
  /** Milliseconds since 1970 that `strftime_now` tells; null for the clock's. */
  now: number | null
}

/**
 * A chat template in Jinja, as in Hugging Face's models. What is trained of a conversation follows from one rendering in
 * which every character knows its origin, and from the generation prompts of its turns.
 */
export class Template {
  readonly #spec: TemplateSpec
  #parsed: JinjaTemplate | null
  #parsedForTools: JinjaTemplate | null = null
  readonly #forms: [Forms?, Forms?] = []
  readonly #tokens = new WeakMap<Tokenizer, TemplateTokens>()

  private constructor(spec: TemplateSpec, parsed: JinjaTemplate | null) {
    this.#spec = spec
    this.#parsed = parsed
  }

  /**
   * @param options.prefixed encodes the rendered text as plain text, after the tokenizer's own prefix (a BOS token for
   * some families); default false.
   * @param options.toolSource template of conversations with tools; default: the same one.
   */
  static fromSource(
    source: string,
    name = 'chat',
    options: { prefixed?: boolean; toolSource?: string | null } = {},
  ): Template {
    needArgument('Template.fromSource', 'the source', source, is.text)
    needOptions('Template.fromSource', options, {
      prefixed: is.flag,
      ...(options?.toolSource !== null && { toolSource: is.text }),
    })
    const { prefixed = false, toolSource = null } = options
    const spec = { source, name, prefixed, toolSource, arguments: {}, now: null }
    return new Template(spec, JinjaTemplate.parse(source, name))
  }

  /** @internal A template of this package, known to be valid and therefore parsed at first use. */
  static own(source: string, name: string): Template {
    return new Template({ source, name, prefixed: true, toolSource: null, arguments: {}, now: null }, null)
  }

  /** @internal */
  static fromSpec(spec: TemplateSpec): Template {
    return new Template(spec, null)
  }

  /** Reads a .jinja file. */
  static async load(path: string): Promise<Template> {
    needArgument('Template.load', 'the path', path, is.path)
    const source = await readText(path, LIMITS.template)
    return Template.fromSource(source, path)
  }

  /**
   * The same template with variables for every row, which a row's own override.
   *
   * @param options.now time that `strftime_now` tells; default: the clock's.
   */
  with(options: { arguments?: TemplateArguments | undefined; now?: Date | undefined }): Template {
    const { arguments: given = {}, now } = options
    const spec: TemplateSpec = {
      ...this.#spec,
      arguments: { ...this.#spec.arguments, ...given },
      now: now?.getTime() ?? this.#spec.now,
    }
    return new Template(spec, this.#parsed)
  }

  /** @internal The same template without arguments and time, as the file of a saved model has it. */
  get unbound(): Template {
    return new Template({ ...this.#spec, arguments: {}, now: null }, this.#parsed)
  }

  get name(): string {
    return this.#spec.name
  }

  /** As written, `{% generation %}` included. */
  get source(): string {
    return this.#spec.source
  }

  get prefixed(): boolean {
    return this.#spec.prefixed
  }

  /** Whether the template writes the date or time. */
  get tellsTime(): boolean {
    return /strftime_now/.test(this.source + (this.#spec.toolSource ?? ''))
  }

  /** @internal */
  get spec(): TemplateSpec {
    return this.#spec
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
   * Renders a conversation up to the start of the response. One that ends in an assistant's message is cut at the end of
   * its content, for the response to continue it.
   */
  prompt(row: PromptRow, tokenizer?: Tokenizer): string {
    if (tokenizer !== undefined) this.prefixIds(tokenizer)
    return promptOf(this, conversation(row), tokenizer).text
  }

  /** Input ids of generation: exactly those before the response in training. */
  promptIds(row: PromptRow, tokenizer: Tokenizer): Int32Array {
    this.prefixIds(tokenizer)
    const { segments } = promptOf(this, conversation(row), tokenizer).encoded(tokenizer)
    const ids = [...this.prefixIds(tokenizer)]
    for (const [i, { text, guard }] of segments.entries())
      for (const id of tokenizer.encode(text, { guard, first: i === 0 })) ids.push(id)
    return Int32Array.from(ids)
  }

  /** Prefix that the tokenizer puts before plain text; none for chat templates, which write their own. */
  prefixIds(tokenizer: Tokenizer): readonly number[] {
    needArgument('the template', 'the tokenizer', tokenizer, is.a(Tokenizer, 'a Tokenizer'))
    return this.prefixed ? tokenizer.prefixIds : []
  }

  /** Id of the token that ends an assistant turn; null where the template has none. */
  terminator(tokenizer: Tokenizer): number | null {
    return this.tokensFor(tokenizer).terminators[0] ?? null
  }

  /** Ids of the tokens that end an assistant turn: after a text, and after a tool call where that is another one. */
  terminators(tokenizer: Tokenizer): readonly number[] {
    return this.tokensFor(tokenizer).terminators
  }

  /** @internal */
  tokensFor(tokenizer: Tokenizer): TemplateTokens {
    this.prefixIds(tokenizer)
    const known = this.#tokens.get(tokenizer) ?? tokensOf(this, tokenizer)
    this.#tokens.set(tokenizer, known)
    return known
  }

  /**
   * Splits the rendered conversation where responses begin and end, trained or not, as promptIds() does; it ends at the
   * last turn's terminator. Throws ERR_DATA where the template refuses the conversation or leaves out what is trained.
   */
  segments(conversation: Conversation, tokenizer: Tokenizer, options: SegmentOptions): RenderedConversation {
    needArgument('segments', 'the conversation', conversation, is.object)
    needArgument('segments', 'the messages', conversation.messages, MESSAGES)
    needArgument('segments', 'the options', options, is.object)
    this.prefixIds(tokenizer)
    return conversationOf(this, conversation, tokenizer, options)
  }

  /** @internal Whether the template marks with `{% generation %}` what is trained. */
  marksGeneration(tools: boolean): boolean {
    return this.#jinja(tools).marksGeneration
  }

  /** @internal Renders messages; ERR_DATA where the template refuses them. */
  render(
    conversation: Conversation,
    tokenizer: Tokenizer | undefined,
    addGenerationPrompt: boolean,
  ): Rendering {
    const { messages, tools } = conversation
    const forms = this.#formsFor(tools !== undefined)
    const given = messages.map((message) => forms.given(message))
    try {
      return this.#rendered(
        this.#jinja(tools !== undefined),
        { ...conversation, messages: given },
        tokenizer,
        addGenerationPrompt,
      )
    } catch (error) {
      if (!(error instanceof PosttrainError)) throw error
      const [found] = messages.flatMap((message, i) => {
        const advice = forms.advice(message)
        return advice === null
          ? []
          : [`the ${this.name} template cannot render messages[${i}].tool_calls: ${advice}`]
      })
      throw found === undefined ? error : new PosttrainError('ERR_DATA', found, { cause: error })
    }
  }

  /** @internal What to write instead where the template leaves out the calls of a message. */
  callAdvice(message: Message, tools: boolean): string | null {
    return this.#formsFor(tools).advice(message)
  }

  #rendered(
    jinja: JinjaTemplate,
    { messages, tools, templateArguments }: Conversation,
    tokenizer: Tokenizer | undefined,
    addGenerationPrompt: boolean,
  ): Rendering {
    const { now } = this.#spec
    const variables = {
      bos_token: tokenizer?.bosToken ?? '',
      eos_token: tokenizer?.eosToken ?? '',
      pad_token: tokenizer?.padToken ?? '',
      ...this.#spec.arguments,
      ...templateArguments,
      messages,
      add_generation_prompt: addGenerationPrompt,
      // null, not undefined, as in transformers.
      tools: tools ?? null,
      documents: null,
    } as Record<string, JsonData>
    const time = now === null ? {} : { now: new Date(now) }
    return jinja.render(variables, time)
  }

  #formsFor(tools: boolean): Forms {
    const own = tools && this.#spec.toolSource !== null
    this.#forms[own ? 1 : 0] ??= new Forms((messages, called) => {
      const tools = called ? CALLED.tools : undefined
      const conversation = { messages: messages as Message[], tools }
      return attempted(() => this.#rendered(this.#jinja(own), conversation, undefined, !called))
    })
    return this.#forms[own ? 1 : 0]!
  }

  #jinja(tools: boolean): JinjaTemplate {
    const { source, toolSource, name } = this.#spec
    if (tools && toolSource !== null) {
      this.#parsedForTools ??= JinjaTemplate.parse(toolSource, `${name} (tool_use)`)
      return this.#parsedForTools
    }
    this.#parsed ??= JinjaTemplate.parse(source, name)
    return this.#parsed
  }
}

function conversation(row: PromptRow): Conversation {
  needArgument('the template', 'the row', row, is.object)
  if ('messages' in row) needArgument('the template', 'the messages', row.messages, MESSAGES)
  if ('messages' in row) return row
  const { instruction, input = '', system = '' } = row
  return { messages: instructionMessages({ instruction, input, system }) }
}
