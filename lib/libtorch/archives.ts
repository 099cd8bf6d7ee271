import { existsSync } from 'node:fs'
import { PosttrainError } from '../errors.js'
import { LIBTORCH_ARCHIVES } from '../files/origins.mjs'
import { libtorchConstants } from './find/libtorch.js'
import { driverProblem, driverVersion } from './find/system.js'

export type Variant = 'cpu' | 'cu130'

/** An official libtorch for one platform. */
export interface Archive {
  /** Node's platform and architecture, such as `linux-x64`. */
  platform: string
  variant: Variant
  /** File name, as it is saved and looked for. */
  name: string
  url: string
  bytes: number
  sha256: string
}

type Env = Record<string, string | undefined>

/** The platform of this process, as the archives name it. */
export const platformName = () => `${process.platform}-${process.arch}`

/** All archives, from `POSTTRAIN_LIBTORCH_MIRROR` where it is set. */
export function archives(env: Env = process.env): Archive[] {
  const constants = libtorchConstants()
  const base = (env.POSTTRAIN_LIBTORCH_MIRROR || LIBTORCH_ARCHIVES).replace(/\/+$/, '')
  return Object.entries(constants.archives).flatMap(([platform, variants]) =>
    Object.entries(variants).map(([variant, { path, bytes, sha256 }]) => ({
      platform,
      variant: variant as Variant,
      name: decodeURIComponent(path.split('/').at(-1)!),
      url: `${base}/${path}`,
      bytes,
      sha256,
    })),
  )
}

/**
 * The archive of a variant for this machine.
 *
 * @throws PosttrainError ERR_LIBTORCH_NOT_FOUND where there is none.
 */
export function archiveFor(variant: Variant, env: Env = process.env): Archive {
  const here = archives(env).filter(({ platform }) => platform === platformName())
  const archive = here.find((entry) => entry.variant === variant)
  if (archive) return archive
  const { version } = libtorchConstants()
  const what = here.length > 0 ? `libtorch ${version} for ${variant}` : `libtorch ${version}`
  throw new PosttrainError(
    'ERR_LIBTORCH_NOT_FOUND',
    `There is no official archive of ${what} for ${platformName()}; on a machine with pip run \`python3 -m pip download --no-deps --only-binary=:all: --dest FOLDER torch==${version}\`, then \`posttrain libtorch install --from FOLDER\`.`,
  )
}

/** The variant that suits this machine, and why. */
export function suitableVariant(): { variant: Variant; because: string } {
  const driver = driverVersion()
  if (driver === null && !existsSync('/dev/nvidiactl'))
    return { variant: 'cpu', because: 'no NVIDIA driver was found' }
  const problem = driverProblem(driver)
  if (problem !== null) return { variant: 'cpu', because: problem }
  if (!archives().some(({ platform, variant }) => platform === platformName() && variant === 'cu130'))
    return { variant: 'cpu', because: `there is no CUDA libtorch for ${platformName()}` }
  return { variant: 'cu130', because: `an NVIDIA driver was found${driver === null ? '' : ` (${driver})`}` }
}
