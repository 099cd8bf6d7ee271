// `npm run prebuild`: compiles for this platform through binding.gyp, writes the stripped stub and core to
// prebuilds/<platform>-<arch>/, as they are published, and prints their sizes.
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { checkTools, parallelJobs } from './build.mjs'
import { nodeHeaders } from './build-gyp.mjs'
import { constants, ensureLibtorch } from './setup/libtorch.mjs'
import { SetupError } from './setup/process.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const suffix = { darwin: 'dylib', win32: 'dll' }[process.platform] ?? 'so'

/** All files of a prebuild. */
export const prebuildFiles = ['posttrain.node', `posttrain_core.torch${constants.minor}.${suffix}`]
export const prebuildFolder = join(root, 'prebuilds', `${process.platform}-${process.arch}`)

/** Paths of this machine found in a file; a published file must have none. */
export function pathsOfThisMachine(file, libtorch) {
  const bytes = readFileSync(file)
  const home = homedir().length > 1 ? [`${homedir()}/`] : []
  return [root, resolve(libtorch), ...home].filter((path) => bytes.includes(path))
}

const stamp = join(root, '.cache/prebuild')

/** Hash of all inputs of a prebuild. */
function stateOf(libtorch) {
  const hash = createHash('sha256').update(`${root}\0${resolve(libtorch)}\0`)
  const sources = readdirSync(join(root, 'native'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
  const more = ['binding.gyp', 'scripts/setup/cuda-image.mjs'].map((path) => join(root, path))
  for (const path of [...sources.sort(), ...more]) hash.update(readFileSync(path))
  return hash.digest('hex')
}

/** Rebuilds the prebuild if it is missing or its inputs have changed. */
export async function ensurePrebuild(libtorch) {
  const whole = prebuildFiles.every((name) => existsSync(join(prebuildFolder, name)))
  const same = whole && existsSync(stamp) && readFileSync(stamp, 'utf8') === stateOf(libtorch)
  if (!same) await prebuild(libtorch)
}

function runPrebuildify(libtorch) {
  const prebuildify = createRequire(import.meta.url)('prebuildify')
  Object.assign(process.env, {
    POSTTRAIN_LIBTORCH: resolve(libtorch),
    npm_config_nodedir: nodeHeaders(),
    npm_config_jobs: String(parallelJobs()),
  })
  const options = { cwd: root, name: 'posttrain', napi: true, strip: true, targets: [process.versions.node] }
  return new Promise((settle, fail) => {
    prebuildify(options, (error) =>
      error ? fail(new SetupError(`The prebuild failed: ${error.message}.`)) : settle(),
    )
  })
}

export async function prebuild(libtorch) {
  checkTools({ cmake: false })
  // prebuildify only adds files: leftovers of an older version would be published as well.
  rmSync(prebuildFolder, { recursive: true, force: true })
  rmSync(join(root, 'build/Release'), { recursive: true, force: true })
  mkdirSync(prebuildFolder, { recursive: true })
  await runPrebuildify(libtorch)
  const names = readdirSync(prebuildFolder).sort()
  if (names.join() !== prebuildFiles.join()) {
    throw new SetupError(`${prebuildFolder} has ${names.join(', ')} instead of ${prebuildFiles.join(', ')}.`)
  }
  for (const name of names) {
    const paths = pathsOfThisMachine(join(prebuildFolder, name), libtorch)
    if (paths.length > 0) throw new SetupError(`${name} contains paths of this machine: ${paths.join(', ')}.`)
  }
  mkdirSync(dirname(stamp), { recursive: true })
  writeFileSync(stamp, stateOf(libtorch))
  return names.map((name) => ({ name, bytes: statSync(join(prebuildFolder, name)).size }))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    const files = await prebuild(await ensureLibtorch())
    for (const { name, bytes } of files) console.log(`prebuild: ${name} ${(bytes / 1000).toFixed(0)} kB`)
  } catch (error) {
    if (!(error instanceof SetupError)) throw error
    process.stderr.write(`posttrain: ${error.message}\n`)
    process.exitCode = 1
  }
}
