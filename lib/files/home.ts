import { homedir } from 'node:os'
import { isAbsolute } from 'node:path'
import { PosttrainError } from '../errors.js'

/**
 * The home folder of this user, under which caches lie.
 *
 * @throws PosttrainError ERR_INVALID_ARGUMENT where HOME is empty or relative, as in some services (a cache would then lie in
 * the current folder, and libraries of strangers there would be opened), or not set for a user whom the system does not know.
 */
export function homeFolder(): string {
  const home = homeOrNull()
  if (home !== null && isAbsolute(home)) return home
  const why = home === null ? 'not set' : `${JSON.stringify(home)}, not an absolute path`
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `HOME is ${why}, so no cache can be found: set HOME, or POSTTRAIN_CACHE and HF_HOME to folders`,
  )
}

/** Null where HOME is not set and the user has no entry of their own, as under any number in a container. */
function homeOrNull(): string | null {
  try {
    return homedir()
  } catch {
    return null
  }
}
