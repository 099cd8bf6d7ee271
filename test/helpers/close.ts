import type { ExecutionContext } from 'ava'

/** How far two numbers may be apart; a relative bound above 1e-2 would prove nothing and is refused. */
export interface Tolerance {
  absolute?: number
  relative?: number
}

type Numbers = ArrayLike<number>

/** Fails unless every pair is within the tolerance; says where the worst pair is. */
export function close(
  t: ExecutionContext,
  actual: Numbers | number,
  expected: Numbers | number,
  tolerance: Tolerance,
  what = 'value',
): void {
  const { absolute = 0, relative = 0 } = tolerance
  if (relative > 1e-2) throw new Error(`a relative tolerance of ${relative} is above 1e-2`)
  const a = typeof actual === 'number' ? [actual] : actual
  const b = typeof expected === 'number' ? [expected] : expected
  t.is(a.length, b.length, `${what}: number of values`)
  let worst = 0
  let at = -1
  for (let i = 0; i < b.length; i++) {
    const over = Math.abs(a[i]! - b[i]!) - (absolute + relative * Math.abs(b[i]!))
    if (!(over <= worst)) {
      worst = over
      at = i
    }
  }
  t.is(at, -1, `${what}[${at}] is ${a[at]}, expected ${b[at]} within ${absolute} + ${relative} relative`)
}

/** Euclidean length. */
export function norm(values: Numbers): number {
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i]! ** 2
  return Math.sqrt(sum)
}

/** Euclidean distance. */
export function distance(a: Numbers, b: Numbers): number {
  if (a.length !== b.length) throw new Error(`${a.length} values against ${b.length}`)
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i]! - b[i]!) ** 2
  return Math.sqrt(sum)
}
