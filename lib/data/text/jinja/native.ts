import { typeError } from './failure.js'
import type { Keywords, Value } from './values.js'

/** A function of the language; the first argument of filters, tests and methods is the value that they are used on. */
export type Native = (args: readonly Value[], keywords: Keywords | null) => Value

/**
 * A function with named parameters, in words: `value width? fill?`, where `?` marks those that may be left out. Names
 * before a `/` are not keywords.
 */
export function native(
  name: string,
  signature: string,
  // biome-ignore lint/suspicious/noExplicitAny: parameters that may be left out are undefined
  run: (...args: any[]) => Value,
): Native {
  const words = signature.split(' ').filter((word) => word !== '')
  const positional = Math.max(0, words.indexOf('/'))
  const params = words.filter((word) => word !== '/').map((word) => word.replace('?', ''))
  const required = words.filter((word) => word !== '/' && !word.endsWith('?')).length
  return (args, keywords) => {
    if (args.length > params.length) {
      throw typeError(`${name}() takes at most ${params.length - 1} arguments (${args.length - 1} given)`)
    }
    if (keywords === null) {
      if (args.length < required) throw typeError(`${name}() misses the argument '${params[args.length]}'`)
      return run(...args)
    }
    const bound: (Value | undefined)[] = [...args]
    for (const [keyword, value] of keywords) {
      const at = params.indexOf(keyword, positional)
      if (at < 0) throw typeError(`${name}() got an unexpected keyword argument '${keyword}'`)
      if (bound[at] !== undefined) throw typeError(`${name}() got multiple values for argument '${keyword}'`)
      bound[at] = value
    }
    for (let i = 0; i < required; i++) {
      if (bound[i] === undefined) throw typeError(`${name}() misses the argument '${params[i]}'`)
    }
    return run(...bound)
  }
}

/** Functions by name, without a prototype. */
export type Natives = ReadonlyMap<string, Native>

// biome-ignore lint/suspicious/noExplicitAny: as above
export type Definitions = Record<string, [signature: string, run: (...args: any[]) => Value]>

export function natives(definitions: Definitions): Natives {
  return new Map(
    Object.entries(definitions).map(([name, [signature, run]]) => [name, native(name, signature, run)]),
  )
}
