// npm's command line, run with the running Node.js.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { SetupError } from '../setup/process.mjs'

/** npm's script: the one that started this process, else the one beside node. */
export function npmScript() {
  const prefix = dirname(dirname(process.execPath))
  const places = [
    process.env.npm_execpath,
    join(prefix, 'lib/node_modules/npm/bin/npm-cli.js'),
    join(prefix, 'node_modules/npm/bin/npm-cli.js'),
    join(dirname(process.execPath), 'node_modules/npm/bin/npm-cli.js'),
    '/usr/share/nodejs/npm/bin/npm-cli.js',
  ]
  const script = places.find((path) => path && /npm-cli\.js$/.test(path) && existsSync(path))
  if (!script) throw new SetupError('npm was not found beside node; run this through `npm run`.')
  return script
}

/** Runs npm; returns its stdout. */
export function npm(args, options = {}) {
  const run = spawnSync(process.execPath, [npmScript(), ...args], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    ...options,
  })
  if (run.status !== 0)
    throw new SetupError(
      `npm ${args.join(' ')} failed: ${(run.stderr || run.stdout || String(run.error)).trim()}`,
    )
  return run.stdout
}

/** Paths that npm would pack from a folder. */
export function packedFiles(folder) {
  const [{ files }] = Object.values(
    JSON.parse(npm(['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: folder })),
  )
  return files.map(({ path }) => path).sort()
}

/** Packs a folder into `into`; returns the path of the tarball, its size and npm's data about it. */
export function pack(folder, into) {
  mkdirSync(into, { recursive: true })
  const text = npm(['pack', '--json', '--ignore-scripts', '--pack-destination', into], { cwd: folder })
  const [{ filename, size, unpackedSize, entryCount, name, version, integrity, shasum }] = Object.values(
    JSON.parse(text),
  )
  const file = join(into, filename.replace('@', '').replace('/', '-'))
  return {
    file,
    name,
    version,
    bytes: size,
    unpackedBytes: unpackedSize,
    files: entryCount,
    integrity,
    shasum,
  }
}
