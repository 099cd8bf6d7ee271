import { readFile } from 'node:fs/promises'
import type { LineCounter, ParsedNode } from 'yaml'
import { type Flag, flagsOf } from '../options/flags.js'
import { type OptionSet, unwrap } from '../options/option.js'
import { findProblem, valueAt } from '../options/validate.js'
import { zod } from '../options/zod.js'
import type { RunConfig } from '../train/run/config.js'
import { UsageError } from './usage.js'

type Values = Record<string, unknown>

/** What of a run's record may be given again. */
interface Repeat {
  /** The command names an adapter. */
  hasAdapter: boolean
  /** Resuming or replacing the run of the record: its folder stays. */
  keepsOutput: boolean
}

/**
 * Reads the options of `--config`: YAML, JSON with comments, or the config.json of a run of the same recipe. Throws a
 * UsageError with line and column.
 */
export async function readConfig(path: string, set: OptionSet, repeat: Repeat): Promise<Values> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    throw new UsageError(`--config: cannot read ${path} (${(error as NodeJS.ErrnoException).code})`)
  }
  const { value, at } = await parse(path, text)
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new UsageError(`--config: ${path} must hold one object of options`)
  }
  const values = value as Values
  if (isRecord(values)) return optionsOfRecord(path, values, set, repeat)
  for (const flag of flagsOf(set.schema()))
    if (values[flag.path] !== undefined) values[flag.path] = asFlag(flag, values[flag.path])
  // The file is checked on its own first, so that an error names it.
  const problem = findProblem({ name: set.name, schema: () => set.schema().partial(), conflicts: [] }, values)
  if (problem !== null) {
    throw new UsageError(`${path}${at(problem.path)}: ${problem.sentence.replace(/^option /, '')}`)
  }
  return values
}

/** A value as a flag takes it: `lora: true` as --lora, a list of paths as several --data. */
function asFlag(flag: Flag, value: unknown): unknown {
  if (flag.kind === 'group' && typeof value === 'boolean') return value ? {} : undefined
  const isList = Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === 'string')
  return flag.repeat && isList ? flag.collect(value.map(flag.read)) : value
}

/** Parses a config; `at` gives the place `:line:column` of an option in it. */
async function parse(path: string, text: string): Promise<{ value: unknown; at: (path: string) => string }> {
  const yaml = await import('yaml')
  const lines: LineCounter = new yaml.LineCounter()
  const isJson = /\.jsonc?$/i.test(path) || /^\s*(\{|\/\/|\/\*)/.test(text)
  const document = yaml.parseDocument(isJson ? withoutComments(text) : text, {
    lineCounter: lines,
    prettyErrors: false,
  })
  const place = (offset: number) => {
    const { line, col } = lines.linePos(offset)
    return `:${line}:${col}`
  }
  const [error] = document.errors
  if (error !== undefined) {
    const kind = isJson ? 'JSON' : 'YAML'
    throw new UsageError(`${path}${place(error.pos[0])}: not ${kind}: ${error.message}`)
  }
  const at = (option: string) => {
    const names = option.split('.')
    const parent = names.length === 1 ? document.contents : document.getIn(names.slice(0, -1), true)
    if (!yaml.isMap(parent)) return ''
    const key = parent.items.find(
      (pair) => yaml.isScalar(pair.key) && String(pair.key.value) === names.at(-1),
    )?.key
    const start = (key as ParsedNode | undefined)?.range?.[0]
    return start === undefined ? '' : place(start)
  }
  try {
    return { value: document.toJS() as unknown, at }
  } catch (cause) {
    throw new UsageError(`--config: ${path}: ${(cause as Error).message}`, { cause })
  }
}

/** Replaces the comments of a JSON text by spaces, so that every other character keeps its place. */
function withoutComments(text: string): string {
  return text.replace(/"(?:[^"\\]|\\.)*"|\/\/[^\n]*|\/\*[\s\S]*?\*\//g, (part) =>
    part.startsWith('"') ? part : part.replace(/[^\n]/g, ' '),
  )
}

function isRecord(values: Values): values is Values & RunConfig {
  return typeof values.recipe === 'string' && values.options !== null && typeof values.options === 'object'
}

/**
 * The options of a run's config.json as they would be given for it: without those that have their default, and those that
 * another option decided.
 */
function optionsOfRecord(
  path: string,
  { recipe, options, model }: RunConfig,
  set: OptionSet,
  { keepsOutput, hasAdapter }: Repeat,
): Values {
  if (recipe !== set.name) {
    throw new UsageError(
      `--config: ${path} is of a run of ${recipe}: use posttrain ${recipe}, or another file`,
    )
  }
  if (options.adapter !== undefined && !hasAdapter) {
    throw new UsageError(
      `--config: the run of ${path} trained an adapter that was loaded: name it with --adapter`,
    )
  }
  const { shape } = set.schema()
  const given: Values = {}
  for (const [name, value] of Object.entries(withoutDefaults(shape, options))) {
    if (holdsObjects(value)) {
      throw new UsageError(
        `--config: ${path}: ${name} of that run was an object in memory, which a file cannot hold; only a program can repeat it`,
      )
    }
    given[name] =
      name === 'reward' ? (value as Source[]).map(({ name, weight }) => `${name}=${weight}`) : value
  }
  if (given.maxSteps !== undefined) delete given.epochs
  for (const name of ['resume', 'overwrite', 'takeLock']) delete given[name]
  if (!keepsOutput) delete given.output
  if (model !== undefined) {
    given.model = model.path
    given.dtype = model.dtype
    if (model.quantize !== undefined) given.quantize = model.quantize
  }
  for (const { option, when } of set.conflicts) {
    // A run of the command line has a folder.
    const isGiven = (option: string) => option === 'output' || valueAt(given, option) !== undefined
    if (!isGiven(option) || !when(isGiven, { ...options, ...given })) continue
    const [last, ...groups] = option.split('.').reverse()
    delete (groups.length === 0 ? given : (valueAt(given, groups.reverse().join('.')) as Values))[last!]
  }
  return given
}

/** A recorded reward. */
interface Source {
  name: string
  weight: number
}

/** Options of the schema that have another value than their default, in groups too. */
function withoutDefaults(shape: Record<string, unknown>, options: Values): Values {
  const kept: Values = {}
  for (const [name, value] of Object.entries(options)) {
    if (shape[name] === undefined || value === null) continue
    const { inner, fallback } = unwrap(shape[name] as never)
    if (JSON.stringify(value) === JSON.stringify(fallback)) continue
    const group = inner instanceof zod().ZodObject && typeof value === 'object' ? inner.shape : null
    kept[name] = group === null ? value : withoutDefaults(group, value as Values)
  }
  return kept
}

/** Rows or models that a program passed. */
const holdsObjects = (value: unknown): boolean =>
  value === '(rows)' || value === '(model)' || (Array.isArray(value) && value.some(holdsObjects))
