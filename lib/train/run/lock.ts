import { join } from 'node:path'
import { PosttrainError } from '../../errors.js'
import { ioError } from '../../files/atomic.js'
import { type Holder, type Lock, STALE_LOCK_MS, takeLock } from '../../files/lock.js'

/**
 * Locks a run folder. Takes over the lock of a process that no longer exists; with `anyPlace` also that of another host,
 * container or thread, whether its run lives or not. Throws ERR_INVALID_ARGUMENT while another run, in this or another
 * process, holds it.
 */
export async function lockRunFolder(folder: string, anyPlace = false): Promise<Lock> {
  const path = join(folder, '.lock')
  const refusal = ({ pid, name, isElsewhere }: Holder) => {
    const away = `if that run has ended, the folder is free ${STALE_LOCK_MS / 1000} s after it was last seen, or at once with option takeLock`
    const here = pid === process.pid ? '' : ` (if no such run exists, remove ${path})`
    return new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `The folder ${folder} is in use by a run of ${name}: wait for it, or choose another output${isElsewhere ? ` (${away})` : here}`,
    )
  }
  try {
    return await takeLock(path, refusal, { anyPlace })
  } catch (error) {
    throw ioError('locking', folder, error)
  }
}
