import type { Template } from '../../data/text/template.js'
import { TIME, templateArguments, templateOption, text } from '../../options/kinds.js'
import { custom, option } from '../../options/option.js'
import { lazily, zod } from '../../options/zod.js'

/** Options that decide how rows become text. */
export const renderingFields = lazily((z) => {
  return {
    template: templateOption<Template>(
      "Template that renders rows as text, string prompts as a user turn; none takes string prompts raw (default: the model's own chat template; on a model without one, plain for conversations, and string prompts raw)",
    ),
    rendered: option(
      z.boolean().optional(),
      'Texts, string prompts and completions are rendered already: no turn is put around them, and marks of special tokens in them are special tokens (a row may say so in a column of this name)',
    ),
    templateArguments: templateArguments(
      'Further variables of the chat template, such as { enable_thinking: false }; a row has its own in chat_template_kwargs',
    ),
    templateTime: option(
      custom<string>('string', TIME.test, `must be ${TIME.expected}`).optional(),
      "Time that a template's strftime_now tells (default: when the run started)",
      text(
        'TIME',
        "Time that a template's date tells, such as 2026-01-02T03:04:05Z (default: when the run started)",
      ),
    ),
  }
})

/** The option `reasoning`. */
export const reasoningOption = (description: string) =>
  option(zod().enum(['template', 'drop', 'keep']).default('template'), description)

/** The option `reasoning` of recipes whose rows are responses. */
export const responseReasoning = () =>
  reasoningOption(
    'What to do with reasoning: as the template does, drop all of it, or keep that of the response, which must be one turn',
  )
