import type { StringForm } from '../../data/rows/string-rows.js'
import type { Template } from '../../data/text/template.js'
import { chooseTemplate } from '../../data/text/templates.js'
import type { Model } from '../../models/model.js'
import { configBefore, type RunConfig } from './config.js'

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
    templateArguments?: Record<string, unknown> | undefined
    templateTime?: string | undefined
    rendered?: boolean | undefined
    output?: string | undefined
    resume: boolean
  },
  model: Model,
): Promise<{
  form: RowForm
  choices: { template: string; templateTime?: string; stringPrompts: RowForm['strings'] | undefined }
  /** The template that the model takes over for generation and saving; null where no row was rendered by it. */
  adopted(rows: { templated: boolean }): Template | null
}> {
  const before = await configBefore(options)
  // The run gave this model a template; a resume on the model itself goes on as the run began.
  const begunWithout = before?.options?.template === 'none' && model.adoptedTemplate !== null
  const chosen = await chooseTemplate(options.template ?? (begunWithout ? 'none' : undefined), model)
  const { strings, name } = chosen
  const time = chosen.template.tellsTime ? startTime(options.templateTime, before) : undefined
  const template = chosen.template.with({
    arguments: options.templateArguments,
    now: time === undefined ? undefined : new Date(time),
  })
  const begunRaw = before !== null && before.stringPrompts === undefined
  const own = model.chatTemplate !== null || begunRaw
  return {
    form: { template, strings: begunRaw ? 'raw' : strings, rendered: options.rendered ?? false },
    choices: {
      template: begunRaw ? template.name : name,
      ...(time !== undefined && { templateTime: time }),
      stringPrompts: begunRaw ? undefined : strings,
    },
    adopted: ({ templated }) => (templated || own ? template : null),
  }
}

/** Time that a template tells: the given one, that of the run before a resume, or now. */
function startTime(given: string | undefined, before: Partial<RunConfig> | null): string | undefined {
  if (given !== undefined) return given
  if (before === null) return new Date().toISOString()
  const time = before.options?.templateTime
  return typeof time === 'string' ? time : undefined
}
