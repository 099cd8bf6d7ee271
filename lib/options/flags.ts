import type * as z from 'zod'
import { describe, type FlagReader, unwrap } from './option.js'
import { zod } from './zod.js'

/** One command-line flag, derived from one option of a schema. */
export interface Flag {
  /** Kebab-case without the dashes, nested names joined by a hyphen, such as `early-stopping-patience`. */
  name: string
  /** Path of the option, such as `earlyStopping.patience`. */
  path: string
  text: string
  /** A switch has `--name` and `--no-name` and takes no value; that of a group turns the group on with its defaults. */
  kind: 'switch' | 'group' | 'value'
  placeholder: string
  repeat: boolean
  /** Default value; undefined where there is none. */
  fallback: unknown
  required: boolean
  read: (text: string) => unknown
  /** Makes the value of a repeated flag from the list of its values. */
  collect: (values: unknown[]) => unknown
  choices: Readonly<Record<string, string>> | undefined
  /** All values of an enum. */
  values: readonly string[] | undefined
}

/** Lists the flags of a schema in its order, without the options that only a program can pass. */
export function flagsOf(schema: z.ZodObject, prefix: readonly string[] = [], optionalGroup = false): Flag[] {
  const { ZodBoolean, ZodObject } = zod()
  return Object.entries(schema.shape).flatMap(([name, field]) => {
    const path = [...prefix, name]
    const { inner, optional, fallback } = unwrap(field as z.ZodType)
    const description = describe(field as z.ZodType)
    if (description?.flag === false) return []
    const isGroup = description?.flag === true
    const within =
      inner instanceof ZodObject && (isGroup || description?.flag === undefined)
        ? flagsOf(inner, path, optionalGroup || optional)
        : null
    if (within !== null && !isGroup) return within
    const own = description?.flag
    const reader = isGroup ? GROUP : typeof own === 'object' ? own : readerOf(inner)
    return [
      {
        name: path.map(kebab).join('-'),
        path: path.join('.'),
        text: reader.help ?? description?.text ?? '',
        kind: isGroup ? 'group' : inner instanceof ZodBoolean ? 'switch' : 'value',
        placeholder: reader.placeholder,
        repeat: reader.repeat ?? false,
        fallback,
        required: !optional && !optionalGroup,
        read: reader.read,
        collect: reader.collect ?? ((values: unknown[]) => values),
        choices: reader.choices,
        values: reader.choices ? Object.keys(reader.choices) : valuesOf(inner),
      },
      ...(within ?? []),
    ]
  })
}

const GROUP: FlagReader = { placeholder: '', read: (text) => text }

function valuesOf(schema: z.ZodType): readonly string[] | undefined {
  return schema instanceof zod().ZodEnum ? schema.options.map(String) : undefined
}

/** Sets the flags' values on a copy of `base` (the options of a config file). */
export function applyFlags(values: ReadonlyMap<Flag, unknown>, base: object = {}): Record<string, unknown> {
  const options = structuredClone(base) as Record<string, unknown>
  for (const [flag, value] of values) {
    const names = flag.path.split('.')
    const last = names.pop()!
    let group = options
    for (const name of names) {
      const inside = group[name]
      const next = inside !== null && typeof inside === 'object' ? (inside as Record<string, unknown>) : {}
      group[name] = next
      group = next
    }
    if (flag.kind !== 'group') group[last] = value
    else if (value === true) group[last] ??= {}
    else delete group[last]
  }
  return options
}

export function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
}

function readerOf(schema: z.ZodType): FlagReader {
  const { ZodArray, ZodEnum, ZodNumber } = zod()
  if (schema instanceof ZodNumber)
    return { placeholder: schema.format?.includes('int') ? 'N' : 'X', read: readNumber }
  if (schema instanceof ZodEnum) return { placeholder: schema.options.join('|'), read: (text) => text }
  if (schema instanceof ZodArray) {
    const element = readerOf(schema.def.element as z.ZodType)
    return { ...element, repeat: true }
  }
  return { placeholder: 'TEXT', read: (text) => text }
}

/** Parses a number; other text is passed on, so that the schema reports it. */
function readNumber(text: string): unknown {
  return text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text
}
