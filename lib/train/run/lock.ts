import { join } from 'node:path'
import { PosttrainError } from '../../errors.js'
import { ioError } from '../../files/atomic.js'
import { type Lock, STALE_LOCK_MS, takeLock } from '../../files/lock.js'

/**
 * Locks a run folder. Takes over the lock of a process that no longer exists; with `anyPlace` also that of another host or
 * container. Throws ERR_INVALID_ARGUMENT while another run, in this or another process, holds it.
 */
export async function lockRunFolder(folder: string, anyPlace = false): Promise<Lock> {
  const path = join(folder, '.lock')
  try {
    return await takeLock(
      path,
      ({ name, isElsewhere }) =>
        new PosttrainError(
          'ERR_INVALID_ARGUMENT',
          `The folder ${folder} is in use by a run of ${name}: wait for it, or choose another output${isElsewhere ? ` (if that run has ended, the folder is free ${STALE_LOCK_MS / 1000} s after it was last seen, or at once with option takeLock)` : ''}`,
        ),
      { anyPlace },
    )
  } catch (error) {
    throw ioError('locking', folder, error)
  }
}
