// `npm run build:gyp`: compiles the stub and the core with node-gyp into build/Release, without downloading headers.
import { copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { checkTools, parallelJobs } from './build.mjs'
import { ensureLibtorch } from './setup/libtorch.mjs'
import { execute, SetupError } from './setup/process.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))

const gypi = `{'target_defaults': {'default_configuration': 'Release',
  'configurations': {'Release': {'cflags': ['-O2']}, 'Debug': {}}, 'cflags': ['-fPIC', '-pthread']}}
`

/** Folder with include/node for node-gyp: that of the Node installation if present, else one with Node-API only. */
export function nodeHeaders() {
  const prefix = dirname(dirname(process.execPath))
  if (existsSync(join(prefix, 'include/node/common.gypi'))) return prefix
  const shim = join(root, '.cache/node-headers')
  const include = join(shim, 'include/node')
  mkdirSync(include, { recursive: true })
  const headers = createRequire(import.meta.url)('node-api-headers').include_dir
  for (const name of readdirSync(headers)) copyFileSync(join(headers, name), join(include, name))
  writeFileSync(join(include, 'common.gypi'), gypi)
  return shim
}

/** Compiles with node-gyp; `rebuild` cleans first. */
export async function buildGyp(libtorch, command = 'rebuild') {
  checkTools({ cmake: false })
  const cli = join(root, 'node_modules/node-gyp/bin/node-gyp.js')
  const args = [cli, command, `--nodedir=${nodeHeaders()}`, '-j', String(parallelJobs())]
  const env = { ...process.env, POSTTRAIN_LIBTORCH: resolve(libtorch) }
  const { code } = await execute(process.execPath, args, { what: 'node-gyp', cwd: root, env })
  if (code !== 0) throw new SetupError('The node-gyp build failed (see above).')
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await buildGyp(await ensureLibtorch())
  } catch (error) {
    if (!(error instanceof SetupError)) throw error
    process.stderr.write(`posttrain: ${error.message}\n`)
    process.exitCode = 1
  }
}
