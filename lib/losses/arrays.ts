import type { Core } from '../addon/addon.js'
import { call } from '../addon/call.js'
import { loadCore } from '../addon/load.js'
import { is, needOptions, type Rule, shown } from '../arguments.js'
import { PosttrainError } from '../errors.js'

/** A Float64Array is computed in float64. A Float32Array is widened to it, and results are rounded back. */
export type FloatArray = Float32Array | Float64Array

/** Refuses arrays that are missing, of another type, or not finite. */
export function needFinite(name: string, arrays: Record<string, FloatArray>): void {
  for (const [field, values] of Object.entries(arrays)) {
    if (!(values instanceof Float32Array || values instanceof Float64Array)) {
      throw invalid(name, `${field} must be a Float32Array or a Float64Array, got ${shown(values)}`)
    }
    const at = values.findIndex((value: number) => !Number.isFinite(value))
    if (at >= 0) throw invalid(name, `${field}[${at}] must be finite, got ${values[at]}`)
  }
}

/** Options that several losses have; the ranges of numbers are checked where they are used. */
const OPTIONS: Readonly<Record<string, Rule>> = {
  mask: is.bytes,
  offsets: is.int32,
  chosenLengths: is.int32,
  rejectedLengths: is.int32,
  gradient: is.flag,
  shiftMean: is.flag,
  ignoreIndex: is.number,
  clip: is.orNull(is.number),
  dualClip: is.number,
  beta: is.number,
  labelSmoothing: is.number,
  gamma: is.number,
  lambda: is.number,
  clipLow: is.number,
  clipHigh: is.number,
  maxLength: is.number,
  coefficient: is.number,
  center: is.number,
  kl: is.number,
  desirableWeight: is.number,
  undesirableWeight: is.number,
  columns: is.positive,
  estimator: is.oneOf('k1', 'k2', 'k3', 'full'),
  direction: is.oneOf('forward', 'reverse'),
  scaleRewards: is.oneOf('group', 'batch', 'none'),
  reduction: is.oneOf('dapo', 'grpo', 'bnpo', 'drGrpo'),
  kind: is.text,
}

/** Refuses options that are no object, and values of the wrong kind. */
export function needLossOptions(name: string, options: unknown): void {
  needOptions(name, options, OPTIONS)
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
  if (!ok) throw invalid(name, `${field} must be ${what}, got ${shown(value)}`)
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
