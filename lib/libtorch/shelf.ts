import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PosttrainError } from '../errors.js'
import { makeFolder } from '../files/atomic.js'
import { waitForLock } from '../files/lock.js'
import { shelfFolder } from './find/libtorch.js'

type Env = Record<string, string | undefined>

/** A libtorch in the cache. */
export interface Shelved {
  /** Such as `2.13.0+cpu`; also its name in the cache. */
  version: string
  /** Value for POSTTRAIN_LIBTORCH. */
  folder: string
  /** Total size of its libraries. */
  bytes: number
  /** False where it has lost something: it is to be installed again. */
  whole: boolean
}

/** Archives and wheels on their way, kept until what is made of them is whole. */
export const downloadsFolder = (env: Env) => join(shelfFolder(env), 'downloads')

/** One process at a time changes the cache; `onWait` is told whom this one waits for. */
export async function lockShelf(
  env: Env,
  options: { signal?: AbortSignal | undefined; onWait?: (pid: number) => void } = {},
): Promise<() => Promise<void>> {
  await makeFolder(shelfFolder(env), 0o700)
  return await waitForLock(join(shelfFolder(env), '.install.lock'), options)
}

/** A name beside the others that no version has. */
export const temporaryHome = (env: Env) =>
  join(shelfFolder(env), `.partial-${randomBytes(6).toString('hex')}`)

/** Every libtorch in the cache, of this version of posttrain and of others. */
export async function listShelf(env: Env = process.env): Promise<Shelved[]> {
  const shelf = shelfFolder(env)
  if (!existsSync(shelf)) return []
  const names = (await readdir(shelf)).filter((name) => /^\d/.test(name)).sort()
  return names.map((version) => {
    const folder = join(shelf, version, 'torch')
    const libraries = librariesOf(join(shelf, version))
    const sizes = Object.entries(libraries ?? {})
    return {
      version,
      folder,
      bytes: sizes.reduce((sum, [, bytes]) => sum + bytes, 0),
      whole:
        libraries !== null &&
        sizes.every(
          ([name, bytes]) => statSync(join(shelf, version, name), { throwIfNoEntry: false })?.size === bytes,
        ),
    }
  })
}

/** The sizes that the manifest of a libtorch notes; null where there is none. */
function librariesOf(home: string): Record<string, number> | null {
  try {
    return JSON.parse(readFileSync(join(home, 'manifest.json'), 'utf8')).libraries
  } catch {
    return null
  }
}

/**
 * Takes a libtorch out of the cache; `all` takes every one, and what downloads have left.
 *
 * @throws PosttrainError ERR_INVALID_ARGUMENT where it is not there.
 */
export async function removeFromShelf(version: string, env: Env = process.env): Promise<void> {
  const shelf = shelfFolder(env)
  const release = await lockShelf(env)
  try {
    const there = (await listShelf(env)).map((entry) => entry.version)
    if (version !== 'all' && !there.includes(version))
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `There is no libtorch ${version} in ${shelf}${there.length === 0 ? '' : ` (there is ${there.join(', ')})`}.`,
      )
    for (const name of version === 'all' ? there : [version]) {
      // Gone from sight at once, so that nobody opens the half of it.
      const going = temporaryHome(env)
      await rename(join(shelf, name), going)
      await rm(going, { recursive: true, force: true })
    }
    if (version === 'all') await rm(downloadsFolder(env), { recursive: true, force: true })
    await sweep(env)
  } finally {
    await release()
  }
}

/** Removes leftovers of killed processes; only under the lock. */
export async function sweep(env: Env): Promise<void> {
  for (const name of await readdir(shelfFolder(env))) {
    if (name.startsWith('.partial-')) await rm(join(shelfFolder(env), name), { recursive: true, force: true })
  }
}
