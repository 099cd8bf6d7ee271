import type * as z from 'zod'
import { zod } from './zod.js'

/** Reader of an option's flag, where the schema alone does not determine it. */
export interface FlagReader {
  /** Shown in the help, such as `FILE`. */
  placeholder: string
  /** Parses the flag's text into the option's value. */
  read: (text: string) => unknown
  /** The flag may be repeated; the value is the list, or what `collect` makes of it. */
  repeat?: boolean
  collect?: (values: unknown[]) => unknown
  /** Help line where the flag takes something other than the option: a folder instead of a model. */
  help?: string
  /** Description of each value, listed after the flags. */
  choices?: Readonly<Record<string, string>>
}

export interface OptionDescription {
  /** One line, shown by --help and in an editor. */
  text: string
  /**
   * `false`: only a program can pass this option (a model, a signal). `true`: a group of options with a switch of its own,
   * which turns the group on with its defaults.
   */
  flag?: FlagReader | boolean
}

const descriptions = new WeakMap<z.ZodType, OptionDescription>()

/** Describes one option of a schema: the outermost call, after `.optional()` or `.default()`. */
export function option<S extends z.ZodType>(schema: S, text: string, flag?: FlagReader | boolean): S {
  descriptions.set(schema, flag === undefined ? { text } : { text, flag })
  return schema
}

export function describe(schema: z.ZodType): OptionDescription | undefined {
  return descriptions.get(schema)
}

const typeNames = new WeakMap<z.ZodType, string>()

/**
 * An option that a schema cannot describe, such as a model. `type` is T in TypeScript's syntax; scripts/option-types.mjs
 * writes it into the interfaces, which do not compile where it differs from T. `Row` in it is a type parameter.
 */
export function custom<T>(type: string, check: (value: unknown) => boolean, message: string) {
  const schema = zod().custom<T>(check, message)
  typeNames.set(schema, type)
  return schema
}

export function typeNameOf(schema: z.ZodType): string | undefined {
  return typeNames.get(schema)
}

/** An option that cannot be combined with others, or has no effect without them. */
export interface Conflict {
  /** Path of the option that would have no effect, such as `warmupRatio` or `earlyStopping.patience`. */
  option: string
  /** True on a conflict; `given` tells whether the caller passed an option, `resolved` has the defaults filled in. */
  when: (given: (path: string) => boolean, resolved: Record<string, unknown>) => boolean
  /** Completes the sentence `option <option> ...`: why, and what to do. */
  because: string
}

/** The one source of types, defaults, flags, config files and help. */
export interface OptionSet<Shape extends z.ZodRawShape = z.ZodRawShape> {
  /** Named in errors, such as `sft`. */
  name: string
  schema: () => z.ZodObject<Shape>
  conflicts: readonly Conflict[]
}

export type OptionInput<Set extends OptionSet> = z.input<ReturnType<Set['schema']>>
export type ResolvedOptions<Set extends OptionSet> = z.output<ReturnType<Set['schema']>>

/** The schema inside `.optional()`, `.default()` and `.nullable()`, and the default value. */
export function unwrap(schema: z.ZodType): { inner: z.ZodType; optional: boolean; fallback: unknown } {
  const { ZodDefault, ZodNullable, ZodOptional, ZodReadonly } = zod()
  let inner = schema
  let optional = false
  let fallback: unknown
  for (;;) {
    if (inner instanceof ZodDefault) {
      optional = true
      fallback = inner.def.defaultValue
      inner = inner.def.innerType as z.ZodType
    } else if (inner instanceof ZodOptional || inner instanceof ZodNullable) {
      optional = true
      inner = inner.def.innerType as z.ZodType
    } else if (inner instanceof ZodReadonly) {
      inner = inner.def.innerType as z.ZodType
    } else {
      return { inner, optional, fallback }
    }
  }
}
