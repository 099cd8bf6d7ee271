import { existsSync, readdirSync, type Stats, statSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { PosttrainError } from '../errors.js'
import { archives, platformName, type Variant } from './archives.js'
import { libraryNames, libtorchConstants } from './find/libtorch.js'

/** Contents of `--from`: an unpacked libtorch, an archive, or neither; and NVIDIA's wheels. */
export interface Given {
  tree: string | null
  archive: string | null
  wheels: string[]
}

const isTorch = (name: string) => /^torch-.*\.whl$/.test(name) || /^libtorch.*\.zip$/.test(name)
const isNvidia = (name: string) => /^nvidia_.*\.whl$/.test(name)
const isTree = (folder: string) => existsSync(join(folder, 'lib', libraryNames().cpu))

/**
 * Looks at a file or a folder that was brought here by hand.
 *
 * @throws PosttrainError ERR_INVALID_ARGUMENT where nothing in it is of use.
 */
export function lookAtGiven(path: string, variant: Variant | 'auto'): Given {
  const from = resolve(path)
  let status: Stats | undefined
  try {
    status = statSync(from, { throwIfNoEntry: false })
  } catch (error) {
    throw unfit(from, (error as Error).message)
  }
  if (status === undefined) throw unfit(from, 'it does not exist')
  if (!status.isFile() && !status.isDirectory()) throw unfit(from, 'it is neither a file nor a folder')
  if (status.isFile()) {
    if (/\.(zip|whl)$/.test(from) && !isNvidia(basename(from)))
      return { tree: null, archive: from, wheels: [] }
    throw unfit(
      from,
      isNvidia(basename(from)) ? 'pass the folder of NVIDIA’s wheels' : 'it is neither a .zip nor a .whl',
    )
  }
  const tree = [from, join(from, 'torch'), join(from, 'libtorch')].find(isTree) ?? null
  const names = readdirSync(from).sort()
  const inFolder = (name: string) => join(from, name)
  const wheels = names.filter(isNvidia).map(inFolder)
  const archive = tree === null ? bestArchive(names.filter(isTorch), variant) : undefined
  if (tree === null && archive === undefined && wheels.length === 0)
    throw unfit(from, `it has no lib/${libraryNames().cpu}, no libtorch archive and no wheel`)
  return { tree, archive: archive === undefined ? null : inFolder(archive), wheels }
}

/** The official one of the variant before others of this version, and those before the rest. */
function bestArchive(names: string[], variant: Variant | 'auto'): string | undefined {
  const official = archives()
    .filter(
      (archive) => archive.platform === platformName() && (variant === 'auto' || archive.variant === variant),
    )
    .map(({ name }) => name)
  const { version } = libtorchConstants()
  const rank = (name: string) =>
    official.includes(decodeURIComponent(name)) ? 0 : name.includes(`-${version}`) ? 1 : 2
  return names.sort((a, b) => rank(a) - rank(b))[0]
}

function unfit(path: string, why: string): PosttrainError {
  return new PosttrainError('ERR_INVALID_ARGUMENT', `Cannot install libtorch from ${path}: ${why}.`)
}
