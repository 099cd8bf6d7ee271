import { is, type Rule } from '../arguments.js'
import { custom, type FlagReader, option } from './option.js'
import { zod } from './zod.js'

/** Passes a flag's text on unchanged; `help` where the flag takes something other than the option. */
export const text = (placeholder: string, help?: string): FlagReader => ({
  placeholder,
  read: (value) => value,
  ...(help !== undefined && { help }),
})

/** The path of a file or folder. */
export const path = () => zod().string().min(1).refine(is.path.test, `must be ${is.path.expected}`)

/** An integer of at least 1. */
export const count = () => zod().int().min(1)

export const isObject = (value: unknown): value is object => value !== null && typeof value === 'object'

/** Whether a value can be read as rows, which are checked as they are read: a path, a list or an async iterable. */
export function isRows(value: unknown): boolean {
  if (typeof value === 'string') return value.trim() !== '' && !value.includes('\0')
  return (
    Array.isArray(value) ||
    (isObject(value) && typeof Reflect.get(value, Symbol.asyncIterator) === 'function')
  )
}

export const abortSignal = () =>
  custom<AbortSignal>('AbortSignal', is.signal.test, 'must be an AbortSignal').optional()

/** Recognizes a model by its methods, so that checking options loads no model classes. */
export const isModel = (value: unknown): value is object => isObject(value) && 'backward' in value

/** The option `template`: the name of a template, the path of one, or a template, recognized by its methods. */
export const templateOption = <Template>(description: string) =>
  option(
    custom<'chat' | 'plain' | 'alpaca' | 'none' | (string & {}) | Template>(
      "'chat' | 'plain' | 'alpaca' | 'none' | (string & {}) | Template",
      (value) => (typeof value === 'string' && value !== '') || (isObject(value) && 'promptIds' in value),
      "must be 'chat', 'plain', 'alpaca', 'none', the path of a .jinja file, or a template",
    ).optional(),
    description,
    text('chat|plain|alpaca|none|FILE.jinja'),
  )

/** Parses JSON; other text is passed on, so that the schema reports it. */
export function readJson(value: string): unknown {
  try {
    return JSON.parse(value)
  } catch {
    return value
  }
}

/** The option `templateArguments`: variables of a chat template. */
export const templateArguments = (description: string) =>
  option(
    custom<Record<string, unknown>>(
      'Record<string, unknown>',
      is.object.test,
      `must be ${is.object.expected}`,
    ).optional(),
    description,
    {
      placeholder: 'JSON',
      read: readJson,
      help: `Further variables of the chat template, such as '{"enable_thinking": false}'`,
    },
  )

/** A time with its zone, in ISO 8601. */
export const TIME: Rule = {
  test: (value) => zod().iso.datetime({ offset: true }).safeParse(value).success,
  expected: 'a time such as 2026-01-02T03:04:05Z',
}
