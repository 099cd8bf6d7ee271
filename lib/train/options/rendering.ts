import type { Template } from '../../data/text/template.js'
import { isObject, isTemplate, text } from '../../options/kinds.js'
import { custom, option } from '../../options/option.js'
import { lazily } from '../../options/zod.js'

/** Parses JSON; other text is passed on, so that the schema reports it. */
function readJson(value: string): unknown {
  try {
    return JSON.parse(value)
  } catch {
    return value
  }
}

/** Options that decide how rows become text. */
export const renderingFields = lazily((z) => {
  return {
    template: option(
      custom<'chat' | 'plain' | 'alpaca' | 'none' | (string & {}) | Template>(
        "'chat' | 'plain' | 'alpaca' | 'none' | (string & {}) | Template",
        isTemplate,
        "must be 'chat', 'plain', 'alpaca', 'none', the path of a .jinja file, or a template",
      ).optional(),
      "Template that renders rows as text, string prompts as a user turn; none takes string prompts raw (default: the model's own chat template; on a model without one, plain for conversations, and string prompts raw)",
      text('chat|plain|alpaca|none|FILE.jinja'),
    ),
    rendered: option(
      z.boolean().optional(),
      'Texts, string prompts and completions are rendered already: no turn is put around them, and marks of special tokens in them are special tokens (a row may say so in a column of this name)',
    ),
    templateArguments: option(
      custom<Record<string, unknown>>(
        'Record<string, unknown>',
        (value) => isObject(value) && !Array.isArray(value),
        'must be an object',
      ).optional(),
      'Further variables of the chat template, such as { enable_thinking: false }; a row has its own in chat_template_kwargs',
      {
        placeholder: 'JSON',
        read: readJson,
        help: `Further variables of the chat template, such as '{"enable_thinking": false}'`,
      },
    ),
    templateTime: option(
      z.iso.datetime({ offset: true }).optional(),
      "Time that a template's strftime_now tells (default: when the run started)",
      text(
        'TIME',
        "Time that a template's date tells, such as 2026-01-02T03:04:05Z (default: when the run started)",
      ),
    ),
  }
})
