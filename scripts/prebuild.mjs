// `npm run prebuild`: compiles for this platform through binding.gyp and puts the stripped stub and core into
// prebuilds/<platform>-<arch>/, as they are published. Ends with their sizes.
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { homedir, userInfo } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { checkTools, parallelJobs } from './build.mjs'
import { nodeHeaders } from './build-gyp.mjs'
import { constants, ensureLibtorch } from './setup/libtorch.mjs'
import { SetupError } from './setup/process.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const suffix = { darwin: 'dylib', win32: 'dll' }[process.platform] ?? 'so'

/** The two files of a prebuild, and nothing else. */
export const prebuildFiles = ['posttrain.node', `posttrain_core.torch${constants.minor}.${suffix}`]
export const prebuildFolder = join(root, 'prebuilds', `${process.platform}-${process.arch}`)

/** Paths of this machine that are written into a file: its own folders mean nothing to whoever installs it. */
export function pathsOfThisMachine(file, more = []) {
  const bytes = readFileSync(file)
  // The home of a container is `/root`, which also begins names of the system.
  const home = homedir().length > 5 ? homedir() : join(homedir(), '.')
  return [root, home, `/${userInfo().username}/.`, ...more].filter((path) => bytes.includes(path))
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
  // prebuildify only adds: what an older version left would be published as well.
  rmSync(prebuildFolder, { recursive: true, force: true })
  rmSync(join(root, 'build/Release'), { recursive: true, force: true })
  mkdirSync(prebuildFolder, { recursive: true })
  await runPrebuildify(libtorch)
  const names = readdirSync(prebuildFolder).sort()
  if (names.join() !== prebuildFiles.join()) {
    throw new SetupError(`${prebuildFolder} has ${names.join(', ')} instead of ${prebuildFiles.join(', ')}.`)
  }
  for (const name of names) {
    const paths = pathsOfThisMachine(join(prebuildFolder, name), [resolve(libtorch)])
    if (paths.length > 0)
      throw new SetupError(`${name} has paths of this machine in it: ${paths.join(', ')}.`)
  }
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
