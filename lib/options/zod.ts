import { createRequire } from 'node:module'

type Zod = typeof import('zod')

let loaded: Zod | undefined

/**
 * Read when the first options are checked and not when the package is imported: it is as many files as all the rest.
 * By `require`, because a recipe checks its options at once and an `import()` would have to be awaited.
 */
export function zod(): Zod {
  loaded ??= createRequire(import.meta.url)('zod') as Zod
  return loaded
}

/** What is made with zod: at its first use, and then the same one. */
export function lazily<T extends object>(make: (z: Zod) => T): () => T {
  let made: T | undefined
  return () => {
    made ??= make(zod())
    return made
  }
}
