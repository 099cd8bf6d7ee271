import type { Variant } from './archives.js'

/** What is being done; for a progress bar. */
export type InstallEvent =
  /** Another process installs. */
  | { type: 'wait'; pid: number }
  | { type: 'download'; url: string; receivedBytes: number; totalBytes: number }
  | { type: 'retry'; reason: string }
  | { type: 'pip'; requirements: string[] }
  | { type: 'unpack'; file: string; readBytes: number; totalBytes: number }

export interface InstallOptions {
  /** Default auto: CUDA where there is a driver for it. */
  variant?: 'auto' | Variant
  /**
   * An archive, a wheel, an unpacked libtorch, or a folder of these, with NVIDIA's wheels; what is not there is
   * downloaded.
   */
  from?: string
  /** Installs again what is there. */
  force?: boolean
  onEvent?: (event: InstallEvent) => void
  signal?: AbortSignal
}

export interface Installed {
  /** Such as `2.13.0+cpu`. */
  version: string
  /** With lib/ and include/. */
  folder: string
  /** False where it was there already. */
  isNew: boolean
  /** Why this variant, where it was not asked for by name. */
  because?: string
}

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
