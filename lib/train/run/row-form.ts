import type { StringForm } from '../../data/rows/string-rows.js'
import type { Template } from '../../data/text/template.js'
import { chooseTemplate } from '../../data/text/templates.js'
import type { Model } from '../../models/model.js'
import { configBefore } from './config.js'

/** How the rows of a run become text. */
export interface RowForm extends StringForm {
  template: Template
}

/**
 * The form of a run's rows, and what config.json says of it. A resume of a run whose config does not say how string
 * prompts were taken takes them raw, as that run did.
 */
export async function rowForm(
  options: {
    template?: string | Template | undefined
    rendered?: boolean | undefined
    output?: string | undefined
    resume: boolean
  },
  model: Model,
): Promise<{
  form: RowForm
  choices: { template: string; stringPrompts: RowForm['strings'] | undefined }
  /** The template that the model takes over for generation and saving; null where no row was rendered by it. */
  adopted(rows: { templated: boolean }): Template | null
}> {
  const { template, strings, name } = await chooseTemplate(options.template, model)
  const before = await configBefore(options)
  const begunRaw = before !== null && before.stringPrompts === undefined
  const own = model.chatTemplate !== null || begunRaw
  return {
    form: { template, strings: begunRaw ? 'raw' : strings, rendered: options.rendered ?? false },
    choices: {
      template: begunRaw ? template.name : name,
      stringPrompts: begunRaw ? undefined : strings,
    },
    adopted: ({ templated }) => (templated || own ? template : null),
  }
}
