import { custom, type FlagReader } from './option.js'
import { zod } from './zod.js'

/** A flag whose text is taken as it stands; `help` where it takes something else than the option. */
export const text = (placeholder: string, help?: string): FlagReader => ({
  placeholder,
  read: (value) => value,
  ...(help !== undefined && { help }),
})

/** A whole number of at least 1. */
export const count = () => zod().int().min(1)

export const isObject = (value: unknown): value is object => value !== null && typeof value === 'object'

export const isTextOrObject = (value: unknown) =>
  (typeof value === 'string' && value !== '') || isObject(value)

export const abortSignal = () =>
  custom<AbortSignal>(
    'AbortSignal',
    (value) => value instanceof AbortSignal,
    'must be an AbortSignal',
  ).optional()

/** By what it can do: options are checked without reading the classes of models. */
export const isModel = (value: unknown): value is object => isObject(value) && 'backward' in value
