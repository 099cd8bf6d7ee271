import { readFileSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { PosttrainError } from '../../errors.js'
import { type Libtorch, libtorchConstants } from './libtorch.js'

/** Advice on replacing an unsuitable libtorch. */
export function remedy({ source, libraries, version }: Libtorch): string {
  switch (source) {
    case 'cache': {
      const variant = (version ?? basename(dirname(dirname(libraries)))).endsWith('+cpu') ? 'cpu' : 'cu130'
      return `run \`npx posttrain libtorch install --variant ${variant} --force\` to download it again`
    }
    case 'package':
      return 'reinstall posttrain with its optional dependencies'
    case 'python':
      return 'unset LIBTORCH_USE_PYTORCH and run `npx posttrain libtorch install`'
    case 'option':
      return `pass the folder of a libtorch ${libtorchConstants().version}`
    case 'POSTTRAIN_LIBTORCH':
    case 'LIBTORCH':
      return `unset ${source} and run \`npx posttrain libtorch install\`, or point it at a libtorch ${libtorchConstants().version}`
    default:
      return source satisfies never
  }
}

/**
 * Checks without opening: the stated version, and for a tree in our cache the size of each library. (Their hashes take
 * seconds; `damagedLibraries` compares them.)
 *
 * @throws PosttrainError ERR_LIBTORCH_VERSION or ERR_LIBTORCH_LOAD.
 */
export function checkLibtorch(libtorch: Libtorch): void {
  const { minor } = libtorchConstants()
  if (libtorch.version !== null && !libtorch.version.startsWith(`${minor}.`)) {
    throw new PosttrainError(
      'ERR_LIBTORCH_VERSION',
      `libtorch in ${libtorch.folder} (${libtorch.source}) is version ${libtorch.version}, but this build of posttrain needs ${minor}; ${remedy(libtorch)}.`,
    )
  }
  if (libtorch.source !== 'cache') return
  const home = dirname(libtorch.folder)
  const manifest: { libraries: Record<string, number> } = JSON.parse(
    readFileSync(join(home, 'manifest.json'), 'utf8'),
  )
  for (const [name, bytes] of Object.entries(manifest.libraries)) {
    const size = statSync(join(home, name), { throwIfNoEntry: false })?.size
    if (size === bytes) continue
    const state = size === undefined ? 'is missing' : `has ${size} bytes instead of ${bytes}`
    throw new PosttrainError('ERR_LIBTORCH_LOAD', `${join(home, name)} ${state}; ${remedy(libtorch)}.`)
  }
}
