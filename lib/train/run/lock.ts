import { join } from 'node:path'
import { PosttrainError } from '../../errors.js'
import { takeLock } from '../../files/lock.js'

/**
 * Locks a run folder; call the result to unlock. Takes over the lock of a process that no longer exists. Throws
 * ERR_INVALID_ARGUMENT while another run, in this or another process, holds it.
 */
export function lockRunFolder(folder: string): Promise<() => Promise<void>> {
  const path = join(folder, '.lock')
  return takeLock(
    path,
    (pid) =>
      new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `The folder ${folder} is in use by a run of process ${pid}: wait for it, or choose another output (if no such run exists, remove ${path})`,
      ),
  )
}
