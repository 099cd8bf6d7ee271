import { PosttrainError } from '../../../errors.js'
import type { JsonData } from '../../rows/json-data.js'
import { compile, type Program } from './compile.js'
import { Failure, SyntaxFailure } from './failure.js'
import { loadFilters } from './filters.js'
import {
  COMPILING_STEPS,
  DEFAULT_LIMITS,
  LimitError,
  type Limits,
  limited,
  MAX_SOURCE,
  STEPS_PER_ITEM,
} from './limits.js'
import { Generated, type Mark, Origin } from './origin.js'
import { parse } from './parser.js'
import type { DataOrigin, Rendering, Run } from './rendering.js'
import { Runtime } from './runtime.js'
import { loadTests } from './tests.js'
import type { TextRun } from './text.js'

export interface RenderOptions {
  /** Time of `strftime_now`; default the present. */
  now?: Date
  limits?: Partial<Limits>
}

loadFilters()
loadTests()

const KEPT = 32
/** The programs compiled last, by source. */
const programs = new Map<string, Program>()

/** A chat template in Jinja, as transformers renders it: Jinja2 3.1, sandboxed, with blocks trimmed. */
export class JinjaTemplate {
  readonly name: string
  /** Whether it has a `{% generation %}` block. */
  readonly marksGeneration: boolean
  readonly #program: Program

  private constructor(name: string, program: Program) {
    this.name = name
    this.marksGeneration = program.marksGeneration
    this.#program = program
  }

  /** @throws PosttrainError ERR_INVALID_FILE for a template that is not valid Jinja or larger than 1 Mi characters. */
  static parse(source: string, name: string): JinjaTemplate {
    return new JinjaTemplate(name, programs.get(source) ?? compiled(source, name))
  }

  /**
   * @throws PosttrainError ERR_DATA where the template refuses the variables with `raise_exception`, where it fails as
   * in Python, or where it exceeds a limit.
   */
  render(variables: Readonly<Record<string, JsonData>>, options: RenderOptions = {}): Rendering {
    const runtime = new Runtime(variables, options.now)
    try {
      limited(limitsOf(variables, options.limits), () => this.#program.run(runtime))
    } catch (cause) {
      throw this.#refused(cause, runtime.line)
    }
    return rendering(runtime)
  }

  #refused(cause: unknown, line: number): unknown {
    if (cause instanceof LimitError) {
      return new PosttrainError('ERR_DATA', `the ${this.name} template exceeds a limit: ${cause.message}`, {
        cause,
      })
    }
    if (isStackOverflow(cause)) {
      return new PosttrainError(
        'ERR_DATA',
        `the ${this.name} template exceeds a limit: its calls or its data are nested too deeply`,
      )
    }
    if (!(cause instanceof Failure)) return cause
    const at = cause.kind === 'TemplateError' ? '' : ` (line ${line})`
    return new PosttrainError(
      'ERR_DATA',
      `the ${this.name} template refused the conversation: ${cause.message}${at}`,
      {
        cause,
      },
    )
  }
}

function limitsOf(variables: Readonly<Record<string, JsonData>>, given: Partial<Limits> = {}): Limits {
  let items = 0
  for (const value of Object.values(variables)) if (Array.isArray(value)) items += value.length
  return { ...DEFAULT_LIMITS, steps: DEFAULT_LIMITS.steps + STEPS_PER_ITEM * items, ...given }
}

function compiled(source: string, name: string): Program {
  if (source.length > MAX_SOURCE) {
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `the ${name} template has ${source.length} characters, more than the limit of ${MAX_SOURCE}`,
    )
  }
  try {
    const within = { ...DEFAULT_LIMITS, steps: COMPILING_STEPS }
    const program = limited(within, () => compile(parse(source)))
    programs.set(source, program)
    if (programs.size > KEPT) programs.delete(programs.keys().next().value!)
    return program
  } catch (cause) {
    if (isStackOverflow(cause)) {
      throw new PosttrainError('ERR_INVALID_FILE', `the ${name} template is nested too deeply`)
    }
    if (cause instanceof LimitError) {
      const problem = `the ${name} template exceeds a limit: to compile it, ${cause.message}`
      throw new PosttrainError('ERR_INVALID_FILE', problem, { cause })
    }
    if (!(cause instanceof SyntaxFailure || cause instanceof Failure)) throw cause
    const at = cause instanceof SyntaxFailure ? ` (line ${cause.line})` : ''
    throw new PosttrainError(
      'ERR_INVALID_FILE',
      `the ${name} template is not valid Jinja: ${cause.message}${at}`,
      { cause },
    )
  }
}

/** The stack of JavaScript is finite: a last resort behind the limits. */
function isStackOverflow(cause: unknown): boolean {
  return cause instanceof RangeError && cause.message.includes('call stack')
}

function rendering({ output, generation }: Runtime): Rendering {
  const { text, runs } = output
  const spans = [...generation, ...generatedSpans(runs)].sort((a, b) => a.from - b.from || a.to - b.to)
  const merged: Run[] = []
  let from = 0
  for (const { to, mark } of runs) {
    const origin = dataOf(mark)
    const last = merged[merged.length - 1]
    if (last !== undefined && last.origin === origin) last.to = to
    else merged.push({ from, to, origin })
    from = to
  }
  return { text, runs: merged, generation: spans }
}

function dataOf(mark: Mark): DataOrigin | null {
  const origin = mark instanceof Generated ? mark.origin : mark
  return origin instanceof Origin ? origin.data : null
}

/** Stretches of generation blocks whose text was printed later, as from a macro. */
function generatedSpans(runs: readonly TextRun[]): { from: number; to: number }[] {
  const spans: { from: number; to: number }[] = []
  let from = 0
  let block = 0
  for (const { to, mark } of runs) {
    const within = mark instanceof Generated ? mark.block : 0
    if (within !== 0 && within === block) spans[spans.length - 1]!.to = to
    else if (within !== 0) spans.push({ from, to })
    block = within
    from = to
  }
  return spans
}
