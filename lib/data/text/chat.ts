import type { Message } from '../rows/messages.js'
import type { Rendering } from './jinja/rendering.js'
import type { Tokenizer } from './tokenizer.js'

/** Further variables of a chat template, such as `{ enable_thinking: false }`. */
export type TemplateArguments = Readonly<Record<string, unknown>>

/** Messages with what a template renders beside them. */
export interface Conversation {
  messages: readonly Message[]
  tools?: unknown[] | undefined
  templateArguments?: TemplateArguments | undefined
}

/** Tokens by which a template marks turns, for one tokenizer. */
export interface TemplateTokens {
  /** Added tokens that mark turns though the tokenizer does not flag them as special, as in DeepSeek's distilled models. */
  markers: ReadonlySet<number>
  /** Tokens that end an assistant turn at the end of a conversation: after a text, after a tool call. */
  terminators: readonly number[]
  /** Generation prompt after a message of the user. */
  prompt: string
}

/** A chat template as the finding of turns uses it. */
export interface ChatTemplate {
  readonly name: string
  /** Whether the template marks with `{% generation %}` what is trained. */
  marksGeneration(tools: boolean): boolean
  /** Renders messages; ERR_DATA where the template refuses them. */
  render(
    conversation: Conversation,
    tokenizer: Tokenizer | undefined,
    addGenerationPrompt: boolean,
  ): Rendering
  /** What to write instead where the template leaves out the calls of a message; null where nothing else helps. */
  callAdvice(message: Message, tools: boolean): string | null
  tokensFor(tokenizer: Tokenizer): TemplateTokens
}
