import { custom, type FlagReader } from './option.js'
import { zod } from './zod.js'

/** Passes a flag's text on unchanged; `help` where the flag takes something other than the option. */
export const text = (placeholder: string, help?: string): FlagReader => ({
  placeholder,
  read: (value) => value,
  ...(help !== undefined && { help }),
})

/** An integer of at least 1. */
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

/** Recognizes a model by its methods, so that checking options loads no model classes. */
export const isModel = (value: unknown): value is object => isObject(value) && 'backward' in value
