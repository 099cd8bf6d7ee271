// The package @posttrain/libtorch-<platform>: the CPU libraries of libtorch that the core needs, their licenses, and a
// manifest with the hash of each.
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  createReadStream,
  existsSync,
  mkdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { neededBy } from '../../lib/libtorch/find/elf.mjs'
import { versionOfTree } from '../../lib/libtorch/find/tree.mjs'
import { constants } from '../setup/libtorch.mjs'
import { SetupError } from '../setup/process.mjs'
import { libtorchPackage, platforms, repository, thisPlatform } from './platforms.mjs'

const licenses = fileURLToPath(new URL('licenses/', import.meta.url))

/** Libraries present on every glibc system with the C++ runtime. */
const ofTheSystem = /^(ld-linux[-\w]*|lib(c|m|dl|rt|util|pthread|stdc\+\+|gcc_s))\.so(\.\d+)*$/
const ofCuda = /^lib(cu|nv|nccl|c10_cuda|torch_cuda)/

/** Paths of the requested libraries and, on Linux, of their dependencies. */
function librariesOf(tree, { libraries, more = [] }) {
  // A wheel keeps third-party libraries beside torch/.
  const folders = ['lib', '../torch.libs', '../nvidia/cu13/lib'].map((name) => join(tree, name))
  const found = new Map()
  const missing = []
  const queue = [...libraries, ...more]
  for (const name of queue) {
    if (found.has(name)) continue
    const path = folders.map((folder) => join(folder, name)).find((file) => existsSync(file))
    if (!path) {
      missing.push(name)
      continue
    }
    found.set(name, path)
    queue.push(...neededBy(path).filter((needed) => !ofTheSystem.test(needed)))
  }
  if (missing.length > 0) throw new SetupError(`${tree} has no ${missing.join(', ')}.`)
  return [...found.values()]
}

/** Reason why a libtorch must not be published; null if it may be. */
export function refusal(tree, paths) {
  const version = versionOfTree(tree)
  if (version?.split('+')[0] !== constants.version)
    return `it is version ${version}, not ${constants.version}`
  const cuda = paths.map((path) => basename(path)).filter((name) => ofCuda.test(name))
  if (cuda.length > 0 || /\+cu/.test(version)) {
    return `it is made for CUDA (version ${version}${cuda.length > 0 ? `, needs ${cuda.join(', ')}` : ''}); NVIDIA's libraries may not be redistributed`
  }
  return null
}

async function hashOf(path) {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}

/**
 * Writes the package to `folder`. `local` is for tests on this machine: any libtorch of the right version is accepted,
 * and npm refuses to publish the package.
 */
export async function stageLibtorch({ tree, folder, local = false, platform = thisPlatform }) {
  const known = platforms[platform]
  if (!known) throw new SetupError(`No libtorch package exists for ${platform}.`)
  const paths = librariesOf(tree, known)
  const problem = refusal(tree, paths)
  if (problem && !local) throw new SetupError(`${tree} cannot be published: ${problem}.`)
  rmSync(folder, { recursive: true, force: true })
  const put = (from, to) => {
    mkdirSync(dirname(join(folder, to)), { recursive: true })
    copyFileSync(from, join(folder, to))
    return to
  }
  const files = {}
  for (const path of paths) {
    const name = put(path, `lib/${basename(path)}`)
    files[name] = { bytes: statSync(path).size, sha256: await hashOf(path) }
  }
  for (const name of known.licenses) put(join(licenses, name), `licenses/${name}`)
  const version = versionOfTree(tree)
  const write = (name, value) => writeFileSync(join(folder, name), `${JSON.stringify(value, null, 2)}\n`)
  writeFileSync(join(folder, 'build-version'), `${version}\n`)
  write('manifest.json', { version, platform, local, files })
  writeFileSync(
    join(folder, 'README.md'),
    `The CPU libraries of libtorch ${constants.version} for ${platform}, unmodified, for the npm package posttrain. Their licenses are in licenses/, their sha256 in manifest.json.\n`,
  )
  write('package.json', {
    ...libtorchPackage(platform),
    description: `libtorch ${constants.version} (CPU) for ${platform}, used by posttrain`,
    license: 'SEE LICENSE IN licenses/',
    ...known.manifest,
    ...(local ? { private: true } : {}),
    files: ['lib', 'licenses', 'manifest.json', 'build-version', 'README.md'],
    // Otherwise Yarn keeps the package zipped, and its libraries cannot be opened.
    preferUnplugged: true,
    ...repository(),
    publishConfig: { access: 'public' },
  })
  return { files, version, refusal: problem }
}
