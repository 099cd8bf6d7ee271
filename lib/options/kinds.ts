import type { FlagReader } from './option.js'
import { zod } from './zod.js'

/** A flag whose text is taken as it stands. */
export const text = (placeholder: string): FlagReader => ({ placeholder, read: (value) => value })

/** A whole number of at least 1. */
export const count = () => zod().int().min(1)

export const isObject = (value: unknown): value is object => value !== null && typeof value === 'object'

/** By what it can do: options are checked without reading the classes of models. */
export const isModel = (value: unknown): value is object => isObject(value) && 'backward' in value
