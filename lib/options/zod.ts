import { createRequire } from 'node:module'

type Zod = typeof import('zod')

let loaded: Zod | undefined

/**
 * Loads zod when options are first checked, not when the package is imported: it has as many files as all the rest.
 * By `require`, because a recipe checks its options synchronously and an `import()` would have to be awaited.
 */
export function zod(): Zod {
  loaded ??= createRequire(import.meta.url)('zod') as Zod
  return loaded
}

/** Builds something with zod at its first use, once. */
export function lazily<T extends object>(make: (z: Zod) => T): () => T {
  let made: T | undefined
  return () => {
    made ??= make(zod())
    return made
  }
}
