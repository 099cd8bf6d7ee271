import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import test from 'ava'
import { findBuild } from '../../lib/addon/load.js'
import { packageRoot } from '../../lib/libtorch/find/libtorch.js'

// Electron's V8 keeps all array buffers in one cage: a buffer over memory of ours would end the process there.
const external = ['napi_create_external_arraybuffer', 'napi_create_external_buffer']
const define = 'NODE_API_NO_EXTERNAL_BUFFERS_ALLOWED'
const build = findBuild()
const onLinux = process.platform === 'linux' ? test : test.skip

/** Names that a library takes from others. */
function imports(path: string): string[] {
  return execFileSync('nm', ['-D', '--undefined-only', path], { encoding: 'utf8', maxBuffer: 2 ** 26 })
    .split('\n')
    .map((line) => line.trim().split(/\s+/).at(-1)!.replace(/@.*/, ''))
}

for (const [what, path] of Object.entries({ stub: build.stub, core: build.core })) {
  onLinux(`the ${what} takes no function that makes an external buffer`, (t) => {
    const names = imports(path)
    // The list is read: it has what the library does use.
    t.true(names.includes('napi_create_function'))
    if (what === 'core') t.true(names.includes('napi_create_arraybuffer'))
    t.deepEqual(
      names.filter((name) => external.includes(name)),
      [],
    )
  })
}

test('both builds define what takes these functions out of the headers', (t) => {
  const root = packageRoot()
  t.regex(readFileSync(join(root, 'binding.gyp'), 'utf8'), new RegExp(`['"]${define}['"]`))
  const commands = join(root, 'build-cmake/compile_commands.json')
  if (!existsSync(commands))
    return void t.log('no build-cmake/compile_commands.json: only binding.gyp was read')
  const list: { file: string; command: string }[] = JSON.parse(readFileSync(commands, 'utf8'))
  const bindings = list.filter(({ file }) => /native\/(bindings|loader)\//.test(file))
  t.true(bindings.length > 8)
  for (const { file, command } of bindings) t.true(command.includes(`-D${define}`), file)
})

onLinux('with it a call of such a function does not compile', (t) => {
  const headers = createRequire(import.meta.url)('node-api-headers').include_dir as string
  const compile = (name: string, ...flags: string[]) =>
    spawnSync('c++', ['-fsyntax-only', '-DNAPI_VERSION=9', ...flags, `-I${headers}`, '-x', 'c++', '-'], {
      input: `#include <node_api.h>\nvoid* f = reinterpret_cast<void*>(&${name});\n`,
      encoding: 'utf8',
    })
  for (const name of external) {
    t.is(compile(name).status, 0, compile(name).stderr)
    const refused = compile(name, `-D${define}`)
    t.not(refused.status, 0)
    t.true(refused.stderr.includes(name))
  }
})
