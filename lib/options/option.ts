import type * as z from 'zod'
import { zod } from './zod.js'

/** How an option is read from the command line, where its schema alone does not say it. */
export interface FlagReader {
  /** Shown in the help, such as `FILE`. */
  placeholder: string
  /** The value of the option, from the text given. */
  read: (text: string) => unknown
  /** May be given more than once; the value is the list, or what `collect` makes of it. */
  repeat?: boolean
  collect?: (values: unknown[]) => unknown
  /** Line of the help, where a flag takes something else than the option: a folder instead of a model. */
  help?: string
  /** What each value is, in a list of its own after the flags. */
  choices?: Readonly<Record<string, string>>
}

export interface OptionDescription {
  /** One line, shown by --help and in an editor. */
  text: string
  /** `false`: only a program can give this option (a model, a signal). */
  flag?: FlagReader | false
}

const descriptions = new WeakMap<z.ZodType, OptionDescription>()

/** Describes one option of a schema: the outermost call, after `.optional()` or `.default()`. */
export function option<S extends z.ZodType>(schema: S, text: string, flag?: FlagReader | false): S {
  descriptions.set(schema, flag === undefined ? { text } : { text, flag })
  return schema
}

export function describe(schema: z.ZodType): OptionDescription | undefined {
  return descriptions.get(schema)
}

const typeNames = new WeakMap<z.ZodType, string>()

/**
 * An option that a schema cannot take apart, such as a model. `type` is T as TypeScript writes it: the interfaces that
 * scripts/option-types.mjs writes have it, and do not compile where it is another. `Row` there stands for a parameter.
 */
export function custom<T>(type: string, check: (value: unknown) => boolean, message: string) {
  const schema = zod().custom<T>(check, message)
  typeNames.set(schema, type)
  return schema
}

export function typeNameOf(schema: z.ZodType): string | undefined {
  return typeNames.get(schema)
}

/** Options that must not be given together, or of which one has no effect without another. */
export interface Conflict {
  /** Path of the option that would have no effect, such as `warmupRatio` or `earlyStopping.patience`. */
  option: string
  /** True where it has none; `given` tells which options the caller gave, `resolved` has the defaults filled in. */
  when: (given: (path: string) => boolean, resolved: Record<string, unknown>) => boolean
  /** Completes the sentence `option <option> ...`: why, and what to do. */
  because: string
}

/** One schema: the type, the defaults, the flags, the config file and the help all come from it. */
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
