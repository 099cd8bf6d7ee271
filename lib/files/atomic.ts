import { access, constants, lstat, mkdir, open, readdir, realpath, rename, rm, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { PosttrainError } from '../errors.js'
import { ageMs, removeLeftovers, temporariesOf, temporaryName } from './temporary.js'

/** Wraps a failure in an ERR_IO that names the operation and the file; a PosttrainError passes unchanged. */
export function ioError(doing: string, path: string, cause: unknown): PosttrainError {
  if (cause instanceof PosttrainError) return cause
  return new PosttrainError('ERR_IO', `${doing} ${path} failed: ${(cause as Error).message}`, { cause })
}

/**
 * Creates a folder and those above it, with the permissions `mode`. Node's own recursive mkdir never returns where a folder can have no new entry, as
 * in /proc.
 */
export async function makeFolder(path: string, mode = 0o777): Promise<void> {
  const whole = resolve(path)
  try {
    await mkdir(whole, mode)
  } catch (error) {
    if ((await stat(whole).catch(() => null))?.isDirectory()) return
    const above = dirname(whole)
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || above === whole) throw error
    if ((await stat(above).catch(() => null)) === null) await makeFolder(above, mode)
    // A second time where the folder above is there, since another call may have created it in between.
    await mkdir(whole, mode).catch((again: NodeJS.ErrnoException) => {
      if (again.code !== 'EEXIST') throw again
    })
  }
}

/** Throws ERR_IO where neither a folder nor what it would be created in can be written; creates nothing. */
export async function needWritable(path: string): Promise<void> {
  try {
    for (let at = resolve(path); ; at = dirname(at)) {
      const found = await stat(at).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT' || dirname(at) === at) throw error
        return null
      })
      if (found === null) continue
      if (!found.isDirectory()) throw new Error(`${at} is not a folder`)
      return await access(at, constants.W_OK)
    }
  } catch (error) {
    throw ioError('writing', path, error)
  }
}

/**
 * Throws ERR_IO where something other than a file, or than a folder, has a path: opening a named pipe waits, and a device
 * must not be replaced.
 */
export async function needOrNothing(kind: 'file' | 'folder', path: string): Promise<void> {
  const found = await stat(path).catch(() => null)
  if (found === null || (kind === 'file' ? found.isFile() : found.isDirectory())) return
  throw ioError('writing', path, new Error(`it is there and is not a ${kind}`))
}

export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Replaces a file atomically: temporary name, sync, rename, sync of the folder. */
export async function writeFileAtomic(given: string, data: string | Uint8Array): Promise<void> {
  const path = resolve(given)
  await needOrNothing('file', path)
  const temporary = temporaryName(path)
  try {
    await makeFolder(dirname(path))
    const handle = await open(temporary, 'wx')
    try {
      await handle.writeFile(data)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, path)
    await syncPath(dirname(path))
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {})
    throw ioError('writing', given, error)
  }
}

/** Syncs every file of a folder, and the folder itself. */
async function syncFolder(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true })) {
    const inside = resolve(path, entry.name)
    if (entry.isDirectory()) await syncFolder(inside)
    else if (entry.isFile()) await syncPath(inside)
  }
  await syncPath(path)
}

/** Exchanges two paths in one step; resolves to false, and changes nothing, where the file system cannot. */
export type Exchange = (a: string, b: string) => Promise<boolean>

/**
 * Creates a folder atomically: `fill` writes into a temporary one beside it, which is synced and then renamed. An
 * existing folder is an error; with `replace` the two are exchanged, so that the path holds the old folder or the new
 * one, whole, at every moment. Where there is no exchange, `repairFolder` finds the old one again.
 */
export async function writeFolderAtomic(
  path: string,
  fill: (temporary: string) => Promise<void>,
  options: { replace?: Exchange | undefined } = {},
): Promise<void> {
  const { replace } = options
  // Of a link the folder that it names is replaced.
  const whole = resolve(path)
  const target = replace ? await realpath(whole).catch(() => whole) : whole
  const temporary = temporaryName(target)
  // An exchange would put the folder in the place of a file or a device, and remove that.
  await needOrNothing('folder', target)
  await makeFolder(dirname(target)).catch((error) => {
    throw ioError('creating the folder of', path, error)
  })
  try {
    await repairFolder(target)
    await mkdir(temporary)
    await fill(temporary)
    await syncFolder(temporary)
    if (replace && (await exists(target))) await replaceFolder(target, temporary, replace)
    else await rename(temporary, target)
    await syncPath(dirname(target))
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {})
    if (
      (error as NodeJS.ErrnoException).code === 'ENOTEMPTY' ||
      (error as NodeJS.ErrnoException).code === 'EEXIST'
    ) {
      throw new PosttrainError('ERR_IO', `${path} already exists: set option overwrite to replace it`, {
        cause: error,
      })
    }
    // Errors of `fill` are the caller's own.
    if (error instanceof Error && !('syscall' in error)) throw error
    throw ioError('writing', path, error)
  }
  // After an exchange it holds the old folder. What stays now is removed by the next write.
  await rm(temporary, { recursive: true, force: true }).catch(() => undefined)
  await removeLeftovers(target)
}

/** Folders that this process has moved away and not yet replaced. */
const moved = new Set<string>()

async function replaceFolder(path: string, temporary: string, exchange: Exchange): Promise<void> {
  if (await exchange(temporary, path)) return
  const old = temporaryName(path, 'old')
  moved.add(path)
  try {
    await rename(path, old)
    await rename(temporary, path).catch(async (error) => {
      // If that fails too, `repairFolder` does it at the next use of the path.
      await rename(old, path).catch(() => undefined)
      throw error
    })
  } finally {
    moved.delete(path)
  }
  await rm(old, { recursive: true, force: true }).catch(() => undefined)
}

/** Between two renames there are milliseconds: after so long an unknown process has ended there. */
const REPLACED_MS = 60_000

/**
 * Puts a folder back that a replacement moved away and could not replace, by a kill or a failure in between. `locked`: the
 * caller has locked the path, so that an unknown process has ended there.
 */
export async function repairFolder(path: string, locked = false): Promise<void> {
  if (moved.has(path) || (await exists(path))) return
  for (const { path: old, kind, whose } of await temporariesOf(path)) {
    if (kind !== 'old' || whose === 'living') continue
    if (whose === 'unknown' && !locked && (await ageMs(old, 'ctimeMs')) < REPLACED_MS) continue
    await rename(old, path).catch(async (error) => {
      // Another process did it first.
      if (!(await exists(path))) throw ioError('restoring', path, error)
    })
    return
  }
}

const exists = (path: string) =>
  lstat(path).then(
    () => true,
    () => false,
  )
