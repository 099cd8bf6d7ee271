import type { Installed, InstallOptions } from './installation.js'

/**
 * Puts libtorch into the cache of this user, from the official archive or from files brought by hand: whole or not at
 * all, and by one process at a time. `POSTTRAIN_LIBTORCH_MIRROR` is asked instead of the official place;
 * `POSTTRAIN_OFFLINE=1` forbids to ask anyone.
 *
 * @throws PosttrainError ERR_LIBTORCH_NOT_FOUND where something is missing and cannot be fetched, ERR_LIBTORCH_VERSION for
 * another version, ERR_INVALID_FILE for a damaged archive, ERR_NETWORK, ERR_IO, ERR_INVALID_ARGUMENT; AbortError.
 */
export async function installLibtorch(options: InstallOptions = {}): Promise<Installed> {
  // Only who installs needs what fetches and unpacks.
  const { Installation } = await import('./installation.js')
  return await new Installation(options, process.env).run()
}
