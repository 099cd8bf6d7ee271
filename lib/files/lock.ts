import { randomBytes } from 'node:crypto'
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { AbortError } from '../errors.js'

/** Locks held by this process. */
const held = new Set<string>()

/**
 * Takes the lock file `path`; call the returned function to release it. The lock of a dead process is taken over. Throws
 * the error of `refuse` while this process or another holds the lock; `refuse` gets the holder's pid.
 */
export async function takeLock(path: string, refuse: (pid: number) => Error): Promise<() => Promise<void>> {
  const key = resolve(path)
  if (held.has(key)) throw refuse(process.pid)
  held.add(key)
  try {
    await takeFile(path, refuse)
  } catch (error) {
    held.delete(key)
    throw error
  }
  return async () => {
    held.delete(key)
    await rm(path, { force: true })
  }
}

/**
 * Waits for the lock, then takes it as `takeLock` does; `onWait` is called once with the holder's pid. A lock that
 * `isStale` reports is removed: its pid may belong to another process by now.
 */
export async function waitForLock(
  path: string,
  options: {
    signal?: AbortSignal | undefined
    onWait?: (pid: number) => void
    isStale?: (path: string) => Promise<boolean>
  } = {},
): Promise<() => Promise<void>> {
  const refusal = new Error('the lock is held')
  let told = false
  for (;;) {
    try {
      return await takeLock(path, (pid) => {
        if (!told) options.onWait?.(pid)
        told = true
        return refusal
      })
    } catch (error) {
      if (error !== refusal) throw error
    }
    if (await options.isStale?.(path).catch(() => false)) await rm(path, { force: true })
    await sleep(100, undefined, options.signal ? { signal: options.signal } : {}).catch(() => {
      throw new AbortError(options.signal?.reason)
    })
  }
}

async function takeFile(path: string, refuse: (pid: number) => Error): Promise<void> {
  const unique = () => `${path}.${randomBytes(6).toString('hex')}`
  const own = unique()
  await writeFile(own, `${process.pid}\n`)
  try {
    // A link is created atomically and never replaces another file.
    while (!(await linked(own, path))) {
      const pid = await holder(path)
      if (pid === null) continue
      if (pid !== process.pid && isAlive(pid)) throw refuse(pid)
      // Of two processes that find a dead process's lock, only one can rename it.
      const old = unique()
      if (!(await rename(path, old).then(() => true, isMissing))) continue
      const moved = await holder(old)
      if (moved !== pid) await linked(old, path)
      await rm(old, { force: true })
    }
  } finally {
    await rm(own, { force: true })
  }
}

/** Pid of the process that holds a lock; null if the lock has just been released. */
async function holder(path: string): Promise<number | null> {
  try {
    return Number(await readFile(path, 'utf8'))
  } catch (error) {
    return isMissing(error as NodeJS.ErrnoException) || null
  }
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw error
  }
}

function isMissing(error: NodeJS.ErrnoException): false {
  if (error.code !== 'ENOENT') throw error
  return false
}

function isAlive(pid: number): boolean {
  try {
    return pid > 0 && process.kill(pid, 0)
  } catch (error) {
    // EPERM: alive, and another user's.
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
