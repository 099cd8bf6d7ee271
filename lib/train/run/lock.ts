import { join } from 'node:path'
import { PosttrainError } from '../../errors.js'
import { ioError } from '../../files/atomic.js'
import { type Lock, STALE_LOCK_MS, takeLock } from '../../files/lock.js'

/**
 * Locks a run folder. Takes over the lock of a process that no longer exists. Throws ERR_INVALID_ARGUMENT while another
 * run, in this or another process, holds it.
 */
export async function lockRunFolder(folder: string): Promise<Lock> {
  const path = join(folder, '.lock')
  try {
    return await takeLock(
      path,
      ({ name }) =>
        new PosttrainError(
          'ERR_INVALID_ARGUMENT',
          `The folder ${folder} is in use by a run of ${name}: wait for it, or choose another output (if no such run exists, remove ${path}; that of another host or container is free ${STALE_LOCK_MS / 1000} s after it was last seen)`,
        ),
    )
  } catch (error) {
    throw ioError('locking', folder, error)
  }
}
