import { Template as Jinja } from '@huggingface/jinja'
import { PosttrainError } from '../../errors.js'
import { BEGIN, END } from './spans.js'

/** A chat template as it is rendered, and with marks around what stood in `{% generation %}`, where it has that. */
export interface TemplateForms {
  plain: Jinja
  marked: Jinja | null
}

const GENERATION = /\{%(-?)\s*(end)?generation\s*(-?)%\}/g

/** Throws ERR_INVALID_FILE where the source is not valid Jinja. */
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
  // An `if` block obeys the same rules of white space as the tag it replaces.
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

/** For readers that do not know `{% generation %}`. */
export function withoutGeneration(source: string): string {
  return source.replace(GENERATION, (_, left: string, _end, right: string) =>
    left || right ? `{%${left} if true %}{% endif ${right}%}` : '',
  )
}
