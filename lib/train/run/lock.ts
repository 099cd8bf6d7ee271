import { join } from 'node:path'
import { PosttrainError } from '../../errors.js'
import { takeLock } from '../../files/lock.js'

/**
 * Takes a run folder for this run alone, until the function it gives is called. The lock of a process that is
 * no more is taken over. Throws ERR_INVALID_ARGUMENT while another run, here or in another process, holds it.
 */
export function lockRunFolder(folder: string): Promise<() => Promise<void>> {
  const path = join(folder, '.lock')
  return takeLock(
    path,
    (pid) =>
      new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `The folder ${folder} is in use by a run of process ${pid}: wait for it, or take another output (if no such run exists, remove ${path})`,
      ),
  )
}
