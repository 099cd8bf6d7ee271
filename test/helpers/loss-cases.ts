import type { ExecutionContext } from 'ava'
import * as losses from '../../lib/losses/index.js'
import { close, type Tolerance } from './close.js'
import { fixture, readJson } from './fixtures.js'

/** A case of test/fixtures/losses (scripts/dev/fixtures/losses.py). */
export interface LossCase {
  name: string
  call: string
  input: Record<string, unknown>
  expected: Record<string, unknown>
}

type Options = Record<string, unknown>
type Loss = (options: Options) => Promise<Record<string, unknown>>

/** A loss by its name, taking one object of options; whiten's values are among them. */
export function lossNamed(call: string): Loss {
  if (call === 'whiten') {
    return async ({ values, ...rest }) => ({ values: await losses.whiten(values as Float64Array, rest) })
  }
  return (losses as unknown as Record<string, Loss>)[call]!
}

export function lossCases(file: string): LossCase[] {
  return readJson<LossCase[]>(fixture('losses', file))
}

/** The options of a case, lists as the typed arrays that the loss takes. */
export function optionsOf(input: Options, Kind: Float64ArrayConstructor | Float32ArrayConstructor): Options {
  const typed = ([key, value]: [string, unknown]): [string, unknown] => {
    if (!Array.isArray(value) || key === 'desirable') return [key, value]
    const list = value as number[]
    if (key === 'mask') return [key, Uint8Array.from(list)]
    const whole = key === 'offsets' || key.endsWith('Lengths')
    return [key, whole ? Int32Array.from(list) : Kind.from(list)]
  }
  return Object.fromEntries(Object.entries(input).map(typed))
}

/** Fails unless `actual` holds all of `expected` within the tolerance, its arrays being of this kind. */
export function matches(
  t: ExecutionContext,
  actual: Options,
  expected: Options,
  tolerance: Tolerance,
  Kind: Float64ArrayConstructor | Float32ArrayConstructor,
): void {
  for (const [key, value] of Object.entries(expected)) {
    const got = actual[key]
    if (typeof value === 'number') {
      close(t, got as number, value, tolerance, key)
    } else if (Array.isArray(value)) {
      t.true(got instanceof Kind, `${key} is a ${Kind.name}`)
      close(t, got as Float64Array, value as number[], tolerance, key)
    } else {
      matches(t, got as Options, value as Options, tolerance, Kind)
    }
  }
}

const invalid = { code: 'ERR_INVALID_ARGUMENT' }

/**
 * Fails unless the loss takes `good` and refuses each of its arrays with NaN in it, one value short, as a plain list
 * and, where it is not in `optional`, left out; and `good` with each of `bad` put over it.
 */
export async function refusesBadInput(
  t: ExecutionContext,
  call: string,
  good: Options,
  optional: readonly string[],
  bad: readonly Options[],
): Promise<void> {
  const loss = lossNamed(call)
  await t.notThrowsAsync(loss(good))
  const variants: [string, Options][] = bad.map((options) => [
    JSON.stringify(options),
    { ...good, ...options },
  ])
  for (const [key, value] of Object.entries(good)) {
    if (!(ArrayBuffer.isView(value) || Array.isArray(value))) continue
    const array = value as Float64Array
    if (array instanceof Float64Array)
      variants.push([`NaN in ${key}`, { ...good, [key]: array.with(0, Number.NaN) }])
    if (array instanceof Float64Array)
      variants.push([`Infinity in ${key}`, { ...good, [key]: array.with(1, Number.POSITIVE_INFINITY) }])
    if (ArrayBuffer.isView(value)) variants.push([`a list as ${key}`, { ...good, [key]: [...array] }])
    variants.push([`${key} one value short`, { ...good, [key]: array.slice(0, -1) }])
    if (!optional.includes(key)) variants.push([`no ${key}`, { ...good, [key]: undefined }])
  }
  for (const [what, options] of variants) {
    const error = await t.throwsAsync(loss(options), undefined, what)
    t.like(error, invalid, `${what}: ${error?.message}`)
    t.regex(error?.message ?? '', /\S+ \S+ \S+/, what)
  }
}
