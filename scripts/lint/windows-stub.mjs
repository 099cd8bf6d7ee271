// Compiles and links the stub for Windows with Debian's mingw-w64 (apt-get install g++-mingw-w64-x86-64-posix), and
// looks at what it asks for; says so and goes on where there is no such compiler.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
const compiler = ['x86_64-w64-mingw32-g++-posix', 'x86_64-w64-mingw32-g++'].find(
  (name) => spawnSync(name, ['--version']).status === 0,
)

/** Names of the libraries that a Windows library imports from. */
function importsOf(file) {
  const text = execFileSync('x86_64-w64-mingw32-objdump', ['-p', file], { encoding: 'utf8' })
  return [...text.matchAll(/DLL Name: (\S+)/g)].map(([, name]) => name.toLowerCase())
}

function build(folder) {
  const { include_dir: headers, def_paths: definitions } = createRequire(import.meta.url)('node-api-headers')
  const archives = Object.values(definitions).map((definition, n) => {
    const archive = join(folder, `node${n}.a`)
    execFileSync('x86_64-w64-mingw32-dlltool', ['-d', definition, '-l', archive, '-D', 'node.exe'])
    return archive
  })
  const { stub } = JSON.parse(readFileSync(join(root, 'native/sources.json'), 'utf8'))
  const output = join(folder, 'posttrain.node')
  const flags = ['-std=c++20', '-O2', '-Wall', '-Werror', '-DNAPI_VERSION=9', '-shared', '-static']
  const sources = stub.map((path) => join(root, path))
  execFileSync(
    compiler,
    [...flags, '-I', join(root, 'native'), '-I', headers, ...sources, ...archives, '-o', output],
    {
      stdio: ['ignore', 'inherit', 'inherit'],
    },
  )
  return importsOf(output)
}

if (!compiler) {
  console.log('windows stub: skipped, there is no mingw-w64 here')
} else {
  const folder = mkdtempSync(join(tmpdir(), 'posttrain-windows-'))
  try {
    const imports = build(folder)
    const others = imports.filter(
      (name) => !/^(node\.exe|kernel32\.dll|msvcrt\.dll|api-ms-win-crt-.*)$/.test(name),
    )
    console.log(`windows stub: compiled and linked, imports ${imports.join(', ')}`)
    if (others.length > 0 || !imports.includes('node.exe')) {
      console.error(
        `windows stub: it must import from node.exe and the system alone, not ${others.join(', ')}`,
      )
      process.exitCode = 1
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
