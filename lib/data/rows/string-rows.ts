import { PosttrainError } from '../../errors.js'
import type { PromptContent } from './prompt-rows.js'
import type { Example, StringColumns } from './rows.js'

/** How texts outside of messages become the text of a sequence. */
export interface StringForm {
  /** String prompts are put in a user turn of the template and completions in the assistant turn, or taken raw. */
  strings: 'turn' | 'raw'
  /**
   * Whether such texts are rendered already: they are raw then, and marks of special tokens in them are special tokens.
   * A row's own column `rendered` comes first.
   */
  rendered: boolean
}

/** How the texts of a row were taken: in turns of the template, raw, or raw with marks read as special tokens. */
export type TextForm = 'turn' | 'raw' | 'rendered'

export function formOf({ rendered, dialog }: StringColumns, form: StringForm): TextForm {
  if (rendered ?? form.rendered) return 'rendered'
  return dialog === true ? 'raw' : form.strings
}

/** The example as it is encoded: messages in place of a string prompt and completion where the template puts turns. */
export function placed(example: Example, form: StringForm): Example {
  if (example.kind === 'messages') return example
  const taken = formOf(example, form)
  const rendered = taken === 'rendered'
  if (example.kind === 'text') return { ...example, rendered }
  if (taken !== 'turn') {
    refuseUnplaced(example, taken)
    return { ...example, rendered }
  }
  const { kind: _, prompt, completion, earlier = [], dialog: _dialog, rendered: _rendered, ...rest } = example
  const answer = { role: 'assistant', content: completion }
  return { kind: 'messages', messages: [...earlier, { role: 'user', content: prompt }, answer], ...rest }
}

/** The prompt as it is encoded, as `placed` does with a row. */
export function placedPrompt(content: PromptContent, form: StringForm): PromptContent {
  if (!('text' in content)) return content
  const taken = formOf(content, form)
  if (taken === 'turn') {
    const { text, earlier = [], dialog: _dialog, rendered: _rendered, ...beside } = content
    return { messages: [...earlier, { role: 'user', content: text }], ...beside }
  }
  refuseUnplaced(content, taken)
  return { ...content, rendered: taken === 'rendered' }
}

/** Throws ERR_DATA for columns that a raw text has no place for. */
function refuseUnplaced({ earlier, tools, templateArguments, dialog }: StringColumns, taken: TextForm): void {
  const beside = {
    tools,
    chat_template_kwargs: templateArguments,
    [earlier?.[0]?.role === 'system' ? 'system' : 'history']: earlier?.[0],
  }
  const column = Object.entries(beside).find(([, value]) => value !== undefined)?.[0]
  if (column === undefined) return
  const why = taken === 'rendered' ? 'is rendered already' : 'is taken raw'
  const advice =
    taken === 'rendered' || dialog === true
      ? 'write it into the text'
      : "write it into the prompt, or let a template put the prompt in a user turn (template 'chat', 'plain', 'alpaca' or a .jinja file)"
  throw new PosttrainError('ERR_DATA', `${column} has no place beside a prompt that ${why}: ${advice}`)
}
