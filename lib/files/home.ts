import { homedir } from 'node:os'
import { isAbsolute } from 'node:path'
import { PosttrainError } from '../errors.js'

/**
 * The home folder of this user, under which caches lie.
 *
 * @throws PosttrainError ERR_INVALID_ARGUMENT where HOME is empty or relative, as in some services: a cache would then lie
 * in the current folder, and libraries of strangers there would be opened.
 */
export function homeFolder(): string {
  const home = homedir()
  if (isAbsolute(home)) return home
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `HOME is ${JSON.stringify(home)}, not an absolute path, so no cache can be found: set HOME, or POSTTRAIN_CACHE and HF_HOME to folders`,
  )
}
