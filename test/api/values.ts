/** An error of the caller's own object, which passes through as it is. */
export class OwnError extends Error {}

const throws = () => {
  throw new OwnError('mine')
}

/** Ordinary wrong values, by name. */
export const VALUES: Readonly<Record<string, () => unknown>> = {
  undefined: () => undefined,
  null: () => null,
  true: () => true,
  false: () => false,
  zero: () => 0,
  'minus one': () => -1,
  one: () => 1,
  half: () => 0.5,
  NaN: () => Number.NaN,
  Infinity: () => Number.POSITIVE_INFINITY,
  '2 ** 53': () => 2 ** 53,
  '2 ** 31': () => 2 ** 31,
  huge: () => 1e308,
  bigint: () => 10n,
  'empty string': () => '',
  space: () => ' ',
  string: () => 'nope',
  'string with NUL': () => 'a\0b',
  'long string': () => 'x'.repeat(5000),
  'half a surrogate pair': () => '\ud83d',
  'empty list': () => [],
  '[null]': () => [null],
  '[5]': () => [5],
  "['']": () => [''],
  'list with holes': () => new Array(3),
  'empty object': () => ({}),
  'object of nulls': () => ({ messages: null, inputIds: null, kind: null, data: null }),
  'object without prototype': () => Object.create(null),
  function: () => () => undefined,
  'function that throws': () => throws,
  symbol: () => Symbol('s'),
  'invalid date': () => new Date(Number.NaN),
  map: () => new Map([[{}, 1]]),
  'empty Int32Array': () => new Int32Array(0),
  'Float32Array with NaN': () => Float32Array.of(Number.NaN, 1),
  promise: () => Promise.resolve(1),
  'iterable without an iterator': () => ({ [Symbol.asyncIterator]: () => 5 }),
  'iterator without results': () => ({ [Symbol.asyncIterator]: () => ({ next: async () => undefined }) }),
  'throwing proxy': () =>
    new Proxy({}, { get: throws, has: throws, ownKeys: throws, getPrototypeOf: throws }),
  'throwing getter': () => Object.defineProperty({}, 'signal', { get: throws, enumerable: true }),
  'revoked proxy': () => {
    const { proxy, revoke } = Proxy.revocable({}, {})
    revoke()
    return proxy
  },
}
