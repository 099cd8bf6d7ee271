import { isLowerCase, isUpperCase } from './case.js'
import { isIterable, lengthOf, View } from './iteration.js'
import { addTests, filterNamed, testNamed } from './names.js'
import { type Native, native, natives } from './native.js'
import { numeric } from './numbers.js'
import { binary, contains, equal, ordered } from './operators.js'
import { str } from './spelling.js'
import { isStr, raw, Text } from './text.js'
import { Callable, Dict, hash, Num, Undefined, type Value } from './values.js'

function isInteger(value: Value): boolean {
  return typeof value === 'number' || typeof value === 'bigint' || (value instanceof Num && !value.float)
}

function named(value: Value, find: (name: string) => unknown): boolean {
  hash(value)
  return isStr(value) && find(raw(value)) !== undefined
}

function ordering(name: string, operator: string): Native {
  return native(name, 'value other', (value: Value, other: Value) => ordered(operator, value, other))
}

const tests: Map<string, Native> = new Map([
  ...natives({
    odd: ['value', (value: Value) => equal(binary('%', value, 2), 1)],
    even: ['value', (value: Value) => equal(binary('%', value, 2), 0)],
    divisibleby: ['value num', (value: Value, by: Value) => equal(binary('%', value, by), 0)],
    defined: ['value', (value: Value) => !(value instanceof Undefined)],
    undefined: ['value', (value: Value) => value instanceof Undefined],
    filter: ['value', (value: Value) => named(value, filterNamed)],
    test: ['value', (value: Value) => named(value, testNamed)],
    none: ['value', (value: Value) => value === null],
    boolean: ['value', (value: Value) => typeof value === 'boolean'],
    false: ['value', (value: Value) => value === false],
    true: ['value', (value: Value) => value === true],
    integer: ['value', isInteger],
    float: ['value', (value: Value) => value instanceof Num && value.float],
    lower: ['value', (value: Value) => isLowerCase(raw(str(value)))],
    upper: ['value', (value: Value) => isUpperCase(raw(str(value)))],
    string: ['value', (value: Value) => isStr(value)],
    mapping: ['value', (value: Value) => value instanceof Dict],
    number: ['value', (value: Value) => numeric(value) !== null],
    sequence: ['value', (value: Value) => lengthOf(value) !== null && !(value instanceof View)],
    iterable: ['value', (value: Value) => isIterable(value)],
    callable: ['value', (value: Value) => value instanceof Callable || value instanceof Undefined],
    sameas: ['value other', sameAs],
    escaped: ['value', (value: Value) => value instanceof Text && value.safe],
    in: ['value seq', (value: Value, seq: Value) => contains(seq, value)],
  }),
])

/** Whether two values are one object in Python, as far as a template can know. */
function sameAs(a: Value, b: Value): boolean {
  if (a === null || typeof a === 'boolean' || b === null || typeof b === 'boolean') return a === b
  const x = numeric(a)
  const y = numeric(b)
  if (x !== null && y !== null) return a === b || (x.float === y.float && !x.float && x.value === y.value)
  if (isStr(a) && isStr(b)) return raw(a) === raw(b)
  return a === b
}

for (const [operator, ...names] of [
  ['==', 'eq', 'equalto'],
  ['!=', 'ne'],
  ['>', 'gt', 'greaterthan'],
  ['>=', 'ge'],
  ['<', 'lt', 'lessthan'],
  ['<=', 'le'],
] as const) {
  for (const name of [operator, ...names]) tests.set(name, ordering(name, operator))
}

/** Makes all tests known by their names. */
export function loadTests(): void {
  addTests(tests)
}
