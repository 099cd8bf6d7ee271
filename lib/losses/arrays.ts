import type { Core } from '../addon/addon.js'
import { call } from '../addon/call.js'
import { loadCore } from '../addon/load.js'
import { PosttrainError } from '../errors.js'

/** A Float64Array is computed in float64. A Float32Array is widened to it, and results are rounded back. */
export type FloatArray = Float32Array | Float64Array

/** Refuses arrays that are missing, of another type, or not finite. */
export function needFinite(name: string, arrays: Record<string, FloatArray>): void {
  for (const [field, values] of Object.entries(arrays)) {
    if (!(values instanceof Float32Array || values instanceof Float64Array)) {
      throw invalid(name, `${field} must be a Float32Array or a Float64Array`)
    }
    const at = values.findIndex((value: number) => !Number.isFinite(value))
    if (at >= 0) throw invalid(name, `${field}[${at}] must be finite, got ${values[at]}`)
  }
}

/** Refuses anything but an Int32Array. */
export function needInt32(name: string, field: string, values: Int32Array): void {
  if (!(values instanceof Int32Array)) throw invalid(name, `${field} must be an Int32Array`)
}

/** Runs a native function on arrays that pass `needFinite`. */
export async function native<T>(
  name: string,
  arrays: Record<string, FloatArray>,
  run: (core: Core) => Promise<T>,
): Promise<T> {
  needFinite(name, arrays)
  const core = await loadCore()
  return await call(core, () => run(core))
}

/** Refuses a number outside its range. */
export function need(
  ok: boolean,
  name: string,
  field: string,
  what: string,
  value: number | undefined,
): void {
  if (!ok) throw invalid(name, `${field} must be ${what}, got ${value}`)
}

export function invalid(name: string, sentence: string): PosttrainError {
  return new PosttrainError('ERR_INVALID_ARGUMENT', `${name}: ${sentence}`)
}

/** Converts float64 results to the precision of `like`. */
export function as<A extends FloatArray>(like: A, values: Float64Array): A {
  return (like instanceof Float32Array ? Float32Array.from(values) : values) as A
}

/** An object with `name` where the value is defined, else an empty one. */
export function optional<K extends string, V>(name: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [name]: value } as { [P in K]?: V })
}
