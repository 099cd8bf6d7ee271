import { typeError } from './failure.js'
import { typeName } from './kinds.js'
import { Callable, type Keywords, Undefined, type Value } from './values.js'

/** Calls a value. */
export function call(callee: Value, args: readonly Value[], keywords: Keywords | null): Value {
  if (callee instanceof Callable) return callee.call(args, keywords)
  if (callee instanceof Undefined) callee.fail()
  throw typeError(`'${typeName(callee)}' object is not callable`)
}
