import { Template as Jinja } from '@huggingface/jinja'
import { PosttrainError } from '../../errors.js'
import { BEGIN, END } from './spans.js'

/** A parsed chat template, plain and with marks in place of `{% generation %}`; `marked` is null without that tag. */
export interface TemplateForms {
  plain: Jinja
  marked: Jinja | null
}

const GENERATION = /\{%(-?)\s*(end)?generation\s*(-?)%\}/g

/** Parses a template; ERR_INVALID_FILE where it is not valid Jinja. */
export function parseTemplate(name: string, source: string): TemplateForms {
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
  // An `if` block follows the same whitespace rules as the tag it replaces.
  const replaced = (mark: (end: boolean) => string) =>
    source.replace(GENERATION, (_, left: string, end: string | undefined, right: string) => {
      return `{%${left} if true %}${mark(end !== undefined)}{% endif ${right}%}`
    })
  return {
    plain: parse(replaced(() => '')),
    marked: new RegExp(GENERATION.source).test(source)
      ? parse(replaced((end) => `{{ '${end ? END : BEGIN}' }}`))
      : null,
  }
}

/** Removes `{% generation %}`, for readers that do not support it. */
export function withoutGeneration(source: string): string {
  return source.replace(GENERATION, (_, left: string, _end, right: string) =>
    left || right ? `{%${left} if true %}{% endif ${right}%}` : '',
  )
}
