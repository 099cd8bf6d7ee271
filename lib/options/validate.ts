import type * as z from 'zod'
import { is, shown } from '../arguments.js'
import { PosttrainError } from '../errors.js'
import { nearestName } from './nearest.js'
import { type OptionInput, type OptionSet, type ResolvedOptions, unwrap } from './option.js'
import { zod } from './zod.js'

/**
 * Checks the options of a caller and fills in the defaults.
 *
 * Throws ERR_INVALID_ARGUMENT for an unknown option (with the nearest name), for a value of the wrong kind
 * or range, and for an option that would have no effect with the others. The message begins with `where`,
 * such as `sft` or the path of a config file.
 */
export function resolveOptions<Set extends OptionSet>(
  set: Set,
  input: OptionInput<Set>,
  where: string = set.name,
): ResolvedOptions<Set> {
  const { problem, data } = check(set, input)
  if (problem !== null) throw invalid(`${where}: ${problem.sentence}`)
  return data as ResolvedOptions<Set>
}

interface Problem {
  /** Path of the option that has it. */
  path: string
  sentence: string
}

/** The first problem of some options; null for good ones. */
export function findProblem(set: OptionSet, input: unknown): Problem | null {
  return check(set, input).problem
}

function check(set: OptionSet, input: unknown): { problem: Problem | null; data?: unknown } {
  if (!is.object.test(input)) {
    return { problem: { path: '', sentence: `the options must be one object, got ${shown(input)}` } }
  }
  const schema = set.schema()
  const unknown = findUnknown(schema, input as Record<string, unknown>, '')
  if (unknown !== null) return { problem: unknown }
  // zod freezes lists, and fails where that cannot be done.
  const typed = Object.entries(input as object).find(([, value]) => ArrayBuffer.isView(value))
  if (typed !== undefined)
    return { problem: { path: typed[0], sentence: `option ${typed[0]} must not be a typed array` } }
  const result = schema.safeParse(input)
  if (!result.success) return { problem: wrongValue(result.error.issues, input) }
  const given = (path: string) => valueAt(input, path) !== undefined
  for (const conflict of set.conflicts) {
    if (given(conflict.option) && conflict.when(given, result.data as Record<string, unknown>)) {
      const sentence = `option ${conflict.option} ${conflict.because}`
      return { problem: { path: conflict.option, sentence } }
    }
  }
  return { problem: null, data: result.data }
}

/** Lists the paths of a schema's options, nested names joined by a dot. */
export function optionPaths(schema: z.ZodObject, prefix = ''): string[] {
  return Object.entries(schema.shape).flatMap(([name, field]) => {
    const { inner } = unwrap(field as z.ZodType)
    return inner instanceof zod().ZodObject ? optionPaths(inner, `${prefix}${name}.`) : [`${prefix}${name}`]
  })
}

export function valueAt(input: unknown, path: string): unknown {
  let value = input
  for (const name of path.split('.')) {
    if (value === null || typeof value !== 'object') return undefined
    value = (value as Record<string, unknown>)[name]
  }
  return value
}

function findUnknown(schema: z.ZodObject, input: Record<string, unknown>, prefix: string): Problem | null {
  for (const [name, value] of Object.entries(input)) {
    const field = Object.hasOwn(schema.shape, name) ? (schema.shape[name] as z.ZodType) : undefined
    const path = `${prefix}${name}`
    if (field === undefined) {
      const near = nearestName(name, Object.keys(schema.shape))
      const hint = near
        ? `; did you mean ${prefix}${near}?`
        : `; known are ${Object.keys(schema.shape).join(', ')}`
      return { path, sentence: `unknown option ${path}${hint}` }
    }
    const { inner } = unwrap(field)
    if (
      inner instanceof zod().ZodObject &&
      value !== null &&
      typeof value === 'object' &&
      !Array.isArray(value)
    ) {
      const unknown = findUnknown(inner, value as Record<string, unknown>, `${path}.`)
      if (unknown !== null) return unknown
    }
  }
  return null
}

/** All missing options at once, else the first problem. */
function wrongValue(issues: readonly z.core.$ZodIssue[], input: unknown): Problem {
  const paths = issues.map(({ path }) => path.map(String).join('.'))
  const missing = [...new Set(paths.filter((path) => valueAt(input, path) === undefined))]
  if (missing.length < 2) return { path: paths[0]!, sentence: sentence(issues[0]!, input) }
  const list = `${missing.slice(0, -1).join(', ')} and ${missing.at(-1)}`
  return { path: missing[0]!, sentence: `options ${list} are missing` }
}

function sentence(issue: z.core.$ZodIssue, input: unknown): string {
  const path = issue.path.map(String).join('.')
  const got = valueAt(input, path)
  if (got === undefined) return `option ${path} is missing`
  switch (issue.code) {
    case 'invalid_type':
      return `option ${path} must be ${article(issue.expected)}, got ${shown(got)}`
    case 'too_small':
      if (got === '' || (Array.isArray(got) && got.length === 0)) return `option ${path} must not be empty`
      return `option ${path} must be ${issue.inclusive ? 'at least' : 'more than'} ${issue.minimum}, got ${shown(got)}`
    case 'too_big':
      return `option ${path} must be ${issue.inclusive ? 'at most' : 'less than'} ${issue.maximum}, got ${shown(got)}`
    case 'invalid_value':
      return `option ${path} must be one of ${issue.values.map(String).join(', ')}, got ${shown(got)}`
    case 'not_multiple_of':
      return `option ${path} must be a multiple of ${issue.divisor}, got ${shown(got)}`
    default:
      return `option ${path} ${issue.message}, got ${shown(got)}`
  }
}

function article(kind: string): string {
  const name = kind === 'int' ? 'integer' : kind
  return `${/^[aeiou]/.test(name) ? 'an' : 'a'} ${name}`
}

function invalid(message: string): PosttrainError {
  return new PosttrainError('ERR_INVALID_ARGUMENT', message)
}
