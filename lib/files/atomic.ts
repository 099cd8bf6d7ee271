import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { PosttrainError } from '../errors.js'

/** Wraps a failure in an ERR_IO that names the operation and the file; a PosttrainError passes unchanged. */
export function ioError(doing: string, path: string, cause: unknown): PosttrainError {
  if (cause instanceof PosttrainError) return cause
  return new PosttrainError('ERR_IO', `${doing} ${path} failed: ${(cause as Error).message}`, { cause })
}

export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

const temporaryName = (path: string) =>
  join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`)

/** Replaces a file atomically: temporary name, sync, rename, sync of the folder. */
export async function writeFileAtomic(path: string, data: string | Uint8Array): Promise<void> {
  const temporary = temporaryName(path)
  try {
    await mkdir(dirname(path), { recursive: true })
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
    throw ioError('writing', path, error)
  }
}

/** Syncs every file of a folder, and the folder itself. */
async function syncFolder(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true })) {
    const inside = join(path, entry.name)
    if (entry.isDirectory()) await syncFolder(inside)
    else if (entry.isFile()) await syncPath(inside)
  }
  await syncPath(path)
}

/**
 * Creates a folder atomically: `fill` writes into a temporary one beside it, which is synced and then renamed. An
 * existing folder is an error; with `replace` it is replaced by the final rename.
 */
export async function writeFolderAtomic(
  path: string,
  fill: (temporary: string) => Promise<void>,
  options: { replace?: boolean } = {},
): Promise<void> {
  const temporary = temporaryName(path)
  await mkdir(dirname(path), { recursive: true }).catch((error) => {
    throw ioError('creating the folder of', path, error)
  })
  try {
    await mkdir(temporary)
    await fill(temporary)
    await syncFolder(temporary)
    if (options.replace === true) {
      const old = temporaryName(path)
      const moved = await rename(path, old).then(
        () => true,
        (error: NodeJS.ErrnoException) => {
          if (error.code === 'ENOENT') return false
          throw error
        },
      )
      try {
        await rename(temporary, path)
      } catch (error) {
        if (moved) await rename(old, path)
        throw error
      }
      if (moved) await rm(old, { recursive: true, force: true })
    } else {
      await rename(temporary, path)
    }
    await syncPath(dirname(path))
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {})
    if (
      (error as NodeJS.ErrnoException).code === 'ENOTEMPTY' ||
      (error as NodeJS.ErrnoException).code === 'EEXIST'
    ) {
      throw new PosttrainError('ERR_IO', `${path} already exists`, { cause: error })
    }
    // Errors of `fill` are the caller's own.
    if (error instanceof Error && !('syscall' in error)) throw error
    throw ioError('writing', path, error)
  }
}
