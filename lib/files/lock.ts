import { type FileHandle, link, lstat, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { threadId } from 'node:worker_threads'
import { AbortError } from '../errors.js'
import { isAlive, type Owner, placeOf, thisProcess } from './owner.js'
import { removeLeftovers, temporaryName } from './temporary.js'

/** Locks held by this thread. */
const held = new Set<string>()

/** How often a holder touches its lock. */
const HEARTBEAT_MS = 10_000

/** After so long without a touch the lock of another host or container is free: its process cannot be looked at. */
export const STALE_LOCK_MS = 60_000

/** The process that holds a lock. */
export interface Holder {
  pid: number
  /** Such as `process 12`, or `process 1 on host a (another host or container, last seen 4 s ago)`. */
  name: string
  /** On another host, in another container or thread: whether it has ended cannot be seen. */
  isElsewhere: boolean
}

/** A lock that is held. */
export interface Lock {
  /** Takes the file again if somebody removed it; false if another process took it, as while this one was suspended. */
  keep(): Promise<boolean>
  release(): Promise<void>
}

/**
 * Takes the lock file `given`. That of a dead process is taken over; of a process on another host or in another PID
 * namespace, and of another thread of this one, only the touches tell, and with `anyPlace` its lock is taken in any case. Throws the error of `refuse` while
 * this process or another holds it.
 */
export async function takeLock(
  given: string,
  refuse: (holder: Holder) => Error,
  { anyPlace = false } = {},
): Promise<Lock> {
  const path = resolve(given)
  // One folder may have several names.
  const folder = await realpath(dirname(path)).catch(() => dirname(path))
  const key = join(folder, basename(path))
  if (held.has(key)) throw refuse({ pid: process.pid, name: `process ${process.pid}`, isElsewhere: false })
  held.add(key)
  let file: FileHandle
  try {
    file = await takeFile(path, refuse, anyPlace)
  } catch (error) {
    held.delete(key)
    throw error
  }
  const text = contentOf(thisProcess())
  // Writing keeps the clock of the file system, which may be another machine's.
  const heartbeat = setInterval(() => file.write(text, 0).catch(() => undefined), HEARTBEAT_MS)
  heartbeat.unref()
  /** Whose file is there; null for none. */
  const holder = async () => {
    const [own, there] = await Promise.all([file.stat(), stat(path).catch(() => null)])
    return there && (there.ino === own.ino ? 'own' : 'other')
  }
  return {
    keep: async () => {
      const now = await holder()
      if (now !== null) return now === 'own'
      const again = await takeFile(path, refuse)
      await file.close().catch(() => undefined)
      file = again
      return true
    },
    release: async () => {
      clearInterval(heartbeat)
      held.delete(key)
      // What stays of it names a process that holds nothing.
      if ((await holder().catch(() => null)) === 'own') await rm(path, { force: true }).catch(() => undefined)
      await file.close().catch(() => undefined)
    },
  }
}

/**
 * Waits for the lock, then takes it as `takeLock` does; `onWait` is called once with the holder's pid. A lock that
 * `isStale` reports is removed: its holder does nothing any more.
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
      const lock = await takeLock(path, ({ pid }) => {
        if (!told) options.onWait?.(pid)
        told = true
        return refusal
      })
      return lock.release
    } catch (error) {
      if (error !== refusal) throw error
    }
    if (await options.isStale?.(path).catch(() => false)) await rm(path, { force: true })
    await sleep(100, undefined, options.signal ? { signal: options.signal } : {}).catch(() => {
      throw new AbortError(options.signal?.reason)
    })
  }
}

/** Puts a lock file of this process at `path` and returns it, open for its heartbeat. */
async function takeFile(
  path: string,
  refuse: (holder: Holder) => Error,
  anyPlace = false,
): Promise<FileHandle> {
  const own = temporaryName(path)
  let file = await open(own, 'wx')
  try {
    await file.write(contentOf(thisProcess()), 0)
    const { mtimeMs: now } = await file.stat()
    // A link is created atomically and never replaces another file.
    for (;;) {
      const result = await linked(own, path)
      if (result === 'linked') break
      if (result === 'impossible') {
        // Some file systems, such as FAT and many in user space, have no links: there is a moment before the content.
        const direct = await open(path, 'wx').catch(isThere)
        if (direct) {
          await direct.write(contentOf(thisProcess()), 0)
          await file.close()
          file = direct
          break
        }
      }
      const found = await read(path)
      if (found === null) continue
      const holder = holderOf(found, now)
      if (holder !== null && !(anyPlace && holder.isElsewhere)) throw refuse(holder)
      // Of two processes that find a dead process's lock, only one can rename it.
      const old = temporaryName(path)
      if (!(await rename(path, old).then(() => true, isMissing))) continue
      const isAnother = (await read(old))?.text !== found.text
      // Renaming replaces what a third process may have put there, linking does not.
      if (isAnother && (await linked(old, path)) === 'impossible' && (await read(path)) === null)
        await rename(old, path)
      await rm(old, { force: true })
    }
    await rm(own, { force: true })
    await removeLeftovers(path)
    return file
  } catch (error) {
    await file.close().catch(() => undefined)
    await rm(own, { force: true }).catch(() => undefined)
    throw error
  }
}

const contentOf = (owner: Owner) => `${JSON.stringify({ ...owner, thread: threadId })}\n`

/** Content and last touch of a lock; null if it has just been released. */
async function read(path: string): Promise<{ text: string; touchedMs: number } | null> {
  try {
    const found = await lstat(path)
    if (!found.isFile()) throw new Error(`${path} is not a file: remove it`)
    return { text: await readFile(path, 'utf8'), touchedMs: found.mtimeMs }
  } catch (error) {
    return isMissing(error as NodeJS.ErrnoException) || null
  }
}

/** Who holds a lock; null if its process is dead, or unknown and silent. A lock of 0.1.0 has only a pid. */
function holderOf({ text, touchedMs }: { text: string; touchedMs: number }, now: number): Holder | null {
  const own = thisProcess()
  const owner = parse(text)
  if (owner === null) return null
  const { pid, host } = owner
  const silentMs = now - touchedMs
  const seen = `last seen ${Math.max(0, Math.round(silentMs / 1000))} s ago`
  if (placeOf(owner) === placeOf(own)) {
    const isOwn = pid === own.pid && (owner.start === own.start || owner.start === '')
    // This thread holds it only if `held` says so.
    if (isOwn && (owner.thread === undefined || owner.thread === threadId)) return null
    if (isOwn && silentMs <= STALE_LOCK_MS)
      return { pid, name: `another thread of process ${pid} (${seen})`, isElsewhere: true }
    if (isOwn || pid === own.pid || !isAlive(owner)) return null
    return { pid, name: `process ${pid}`, isElsewhere: false }
  }
  if (silentMs > STALE_LOCK_MS) return null
  return {
    pid,
    name: `process ${pid} on host ${host} (another host or container, ${seen})`,
    isElsewhere: true,
  }
}

/** The process that a lock names; null for a torn one. */
function parse(text: string): (Owner & { thread?: number | undefined }) | null {
  try {
    const value = JSON.parse(text) as (Partial<Owner> & { thread?: number }) | number | null
    if (typeof value === 'number') return { ...thisProcess(), pid: value, start: '' }
    const { host, boot, namespace, pid, start, thread } = value ?? {}
    const words = [host, boot, namespace, start]
    if (!Number.isSafeInteger(pid) || words.some((word) => typeof word !== 'string')) return null
    return { host, boot, namespace, pid, start, thread } as Owner & { thread?: number | undefined }
  } catch {
    return null
  }
}

async function linked(from: string, to: string): Promise<'linked' | 'there' | 'impossible'> {
  try {
    await link(from, to)
    return 'linked'
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return 'there'
    if (['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EINVAL'].includes(code ?? ''))
      return 'impossible'
    throw error
  }
}

function isThere(error: NodeJS.ErrnoException): null {
  if (error.code !== 'EEXIST') throw error
  return null
}

function isMissing(error: NodeJS.ErrnoException): false {
  if (error.code !== 'ENOENT') throw error
  return false
}
