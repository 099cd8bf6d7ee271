// Sets up a clone: npm packages, libtorch, the native build, the TypeScript build.
//   node scripts/setup.mjs                           rebuilds only what is missing or stale
//   node scripts/setup.mjs --run test [arguments]    ... then runs the tests (arguments go to AVA)
//   node scripts/setup.mjs --run FILE [arguments]    ... then runs a script
// Requires Node 20, a C++20 compiler, cmake and python3 with pip; no npm packages.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { versionOfTree } from '../lib/libtorch/find/tree.mjs'
import { buildNative } from './build.mjs'
import { ensureLibtorch } from './setup/libtorch.mjs'
import { withLock } from './setup/lock.mjs'
import { execute, SetupError, say } from './setup/process.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const inRoot = (...parts) => join(root, ...parts)

/** Hash of the contents of files and folders, and of more texts. */
function fingerprint(paths, ...texts) {
  const hash = createHash('sha256')
  const add = (path) => {
    if (lstatSync(path).isDirectory()) {
      // An example may have its own packages.
      for (const name of readdirSync(path).sort()) if (name !== 'node_modules') add(join(path, name))
    } else hash.update(relative(root, path)).update('\0').update(readFileSync(path)).update('\0')
  }
  for (const path of paths) if (existsSync(inRoot(path))) add(inRoot(path))
  for (const text of texts) hash.update(text).update('\0')
  return hash.digest('hex')
}

const stampOf = (name) => {
  try {
    return readFileSync(inRoot('.cache', name), 'utf8')
  } catch {
    return ''
  }
}
function stamp(name, value) {
  mkdirSync(inRoot('.cache'), { recursive: true })
  writeFileSync(inRoot('.cache', name), value)
}

/** True if npm's own lockfile of node_modules lists every package of ours in its version. */
function packagesAreInstalled() {
  try {
    const ours = JSON.parse(readFileSync(inRoot('package-lock.json'), 'utf8')).packages
    const theirs = JSON.parse(readFileSync(inRoot('node_modules/.package-lock.json'), 'utf8')).packages
    return Object.entries(ours).every(
      ([path, entry]) => path === '' || entry.optional || theirs[path]?.version === entry.version,
    )
  } catch {
    return false
  }
}

async function ensurePackages() {
  if (packagesAreInstalled()) return
  if (existsSync(inRoot('node_modules')) && lstatSync(inRoot('node_modules')).isSymbolicLink()) {
    say('node_modules is a link and differs from package-lock.json; it is left unchanged')
    return
  }
  say('installing npm packages')
  const npm = process.env.npm_execpath
  const [program, args] = npm ? [process.execPath, [npm]] : ['npm', []]
  const options = { what: 'npm ci', cwd: root, shell: !npm && process.platform === 'win32' }
  const { code } = await execute(program, [...args, 'ci', '--no-audit', '--no-fund'], options)
  if (code !== 0) throw new SetupError('npm ci failed (see above); check the network and retry.')
}

async function ensureNative(libtorch) {
  const outputs = ['posttrain.node', 'posttrain_core.torch2.13.so'].map((name) =>
    inRoot('build-cmake/Release', name),
  )
  const inputs = ['native', 'CMakeLists.txt', 'scripts/setup/cuda-image.mjs']
  const state = fingerprint(inputs, libtorch, versionOfTree(libtorch) ?? '', root)
  if (stampOf('native') === state && outputs.every((path) => existsSync(path))) return
  say('building the native core')
  await buildNative(libtorch)
  stamp('native', state)
}

async function ensureTypeScript() {
  const state = fingerprint(['lib', 'test', 'examples', 'tsconfig.json', 'package-lock.json'])
  if (stampOf('typescript') === state && existsSync(inRoot('dist/lib'))) return
  say('compiling TypeScript')
  const compiler = inRoot('node_modules/typescript/bin/tsc')
  const { code } = await execute(process.execPath, [compiler, '-p', inRoot('tsconfig.json')], {
    what: 'tsc',
    cwd: root,
  })
  if (code !== 0) throw new SetupError('TypeScript found errors (see above).')
  stamp('typescript', state)
}

function run(target, args) {
  const rest = args[0] === '--' ? args.slice(1) : args
  const file = target === 'test' ? inRoot('node_modules/ava/entrypoints/cli.mjs') : target
  const child = spawn(process.execPath, [file, ...rest], {
    stdio: 'inherit',
    cwd: target === 'test' ? root : undefined,
  })
  // The terminal sends Ctrl-C to the child too; the child decides when to exit.
  for (const signal of ['SIGINT', 'SIGTERM'])
    process.on(signal, () => signal === 'SIGTERM' && child.kill(signal))
  return new Promise((settle) => {
    child.on('exit', (code, signal) => settle(code ?? (signal === 'SIGINT' ? 130 : 1)))
  })
}

async function main() {
  const [major, minor] = process.versions.node.split('.').map(Number)
  if (major < 20 || (major === 20 && minor < 12)) {
    throw new SetupError(`Node ${process.versions.node} is too old; install Node 20.12 or newer.`)
  }
  const at = process.argv.indexOf('--run')
  await withLock(inRoot('.cache/setup.lock'), async () => {
    await ensurePackages()
    await ensureNative(await ensureLibtorch())
    await ensureTypeScript()
  })
  if (at < 0) {
    say('set-up is complete')
    return 0
  }
  const target = process.argv[at + 1]
  if (!target) throw new SetupError('--run requires `test` or a script.')
  return run(target, process.argv.slice(at + 2))
}

main().then(
  (code) => process.exit(code),
  (error) => {
    process.stderr.write(`posttrain: ${error instanceof SetupError ? error.message : error.stack}\n`)
    process.exit(1)
  },
)
