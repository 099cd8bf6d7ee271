import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { hostname } from 'node:os'
import { delimiter, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import test from 'ava'
import { findLibtorch, libtorchConstants, packageRoot } from '../../lib/libtorch/find/libtorch.js'
import { type Ended, runNode } from '../helpers/child.js'
import { newFolder } from '../helpers/scratch.js'

const script = (name: string) => pathToFileURL(join(packageRoot(), 'scripts', name)).href
const { version } = libtorchConstants()

function node(args: string[], env: Record<string, string>): Promise<Ended> {
  const clean = { POSTTRAIN_LIBTORCH: '', LIBTORCH: '', POSTTRAIN_CACHE: newFolder() }
  return runNode(args, { env: { ...clean, ...env } })
}

/** Runs ensureLibtorch in a process of its own, with another archive where one is given. */
function ensure(
  env: Record<string, string>,
  archive?: { path: string; bytes: number; sha256: string },
): Promise<Ended> {
  const program = `
    const { constants, ensureLibtorch } = await import(${JSON.stringify(script('setup/libtorch.mjs'))})
    const archive = ${JSON.stringify(archive ?? null)}
    if (archive) constants.archives[process.platform + '-' + process.arch] = { cpu: archive }
    try { console.log(await ensureLibtorch()) } catch (error) { console.log(error.constructor.name + ': ' + error.message); process.exit(1) }`
  return node(['--input-type=module', '-e', program], env)
}

/** A folder for PATH with these programs of the system and nothing else. */
function pathOf(...programs: string[]): string {
  const folder = newFolder()
  for (const name of programs) {
    const found = process.env.PATH!.split(delimiter).find((part) => existsSync(join(part, name)))
    if (found) symlinkSync(join(found, name), join(folder, name))
  }
  return folder
}

/** zip with Python's own writer, so that our reader is not tested with itself. */
function zip(entries: Record<string, string>): string {
  const folder = newFolder()
  const path = join(folder, 'a.zip')
  const program = `
import json, sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as archive:
    for n, (name, text) in enumerate(json.load(sys.stdin).items()):
        archive.writestr(name, text, compress_type=zipfile.ZIP_DEFLATED if n % 2 else zipfile.ZIP_STORED)`
  execFileSync('python3', ['-c', program, path], { input: JSON.stringify(entries) })
  return path
}

async function serve(path: string): Promise<{ url: string; requests: () => number; close: () => void }> {
  let requests = 0
  const server = createServer((_request, response) => {
    requests++
    response.end(readFileSync(path))
  })
  await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, requests: () => requests, close: () => server.close() }
}

const archiveOf = (path: string) => {
  const bytes = readFileSync(path)
  return { path: 'a.zip', bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') }
}
const libtorchZip = () =>
  zip({
    'libtorch/lib/libtorch_cpu.so': 'library',
    'libtorch/include/ATen/ATen.h': 'header '.repeat(1000),
    'libtorch/build-version': `${version}+cpu\n`,
    'libtorch/lib/libtorch_python.so': 'not wanted',
  })

test('when all is there, set-up does nothing', async (t) => {
  const environment = { POSTTRAIN_LIBTORCH: findLibtorch().folder }
  await node([join(packageRoot(), 'scripts/setup.mjs')], environment)
  const { code, stderr } = await node([join(packageRoot(), 'scripts/setup.mjs')], environment)
  t.is(code, 0)
  t.is(
    stderr.replace(/^.*(node_modules is a link|another set-up is running).*\n/gm, ''),
    'posttrain: set-up is complete\n',
  )
})

test('--run runs a script with its arguments and its exit code', async (t) => {
  const file = join(newFolder(), 'a.mjs')
  writeFileSync(file, "console.log(process.argv.slice(2).join(' ')); process.exit(3)")
  const args = [join(packageRoot(), 'scripts/setup.mjs'), '--run', file, '--real', '--model', 'a']
  const { code, stdout } = await node(args, { POSTTRAIN_LIBTORCH: findLibtorch().folder })
  t.is(code, 3)
  t.is(stdout, '--real --model a\n')
})

test('offline and without libtorch, set-up says so in one sentence', async (t) => {
  const { code, stderr } = await node([join(packageRoot(), 'scripts/setup.mjs')], { POSTTRAIN_OFFLINE: '1' })
  t.is(code, 1)
  t.regex(
    stderr,
    /^posttrain: No libtorch 2\.13\.0 was found, and POSTTRAIN_OFFLINE=1 forbids downloading it; set POSTTRAIN_LIBTORCH.*$/m,
  )
  t.notRegex(stderr, / {4}at /)
})

test('no pip and no network: both reasons are told, and nothing is left in the cache', async (t) => {
  for (const PATH of [pathOf(), pathOf('curl')]) {
    const cache = newFolder()
    const { code, stdout } = await ensure({
      PATH,
      POSTTRAIN_CACHE: cache,
      POSTTRAIN_LIBTORCH_MIRROR: 'http://127.0.0.1:1',
    })
    t.is(code, 1)
    t.regex(
      stdout,
      /^SetupError: Could not download libtorch 2\.13\.0 \(pip: no pip .*; archive: .+\); check the network, or set/,
    )
    t.deepEqual(readdirSync(join(cache, 'libtorch')), [])
  }
})

test('the official archive is fetched where there is no pip, and found afterwards', async (t) => {
  const path = libtorchZip()
  const server = await serve(path)
  const cache = newFolder()
  const env = { PATH: pathOf(), POSTTRAIN_CACHE: cache, POSTTRAIN_LIBTORCH_MIRROR: server.url }
  const { code, stdout } = await ensure(env, archiveOf(path))
  t.is(code, 0, stdout)
  const home = join(cache, 'libtorch', `${version}+cpu`)
  t.is(stdout.trim(), join(home, 'torch'))
  t.is(readFileSync(join(home, 'torch/include/ATen/ATen.h'), 'utf8'), 'header '.repeat(1000))
  t.deepEqual(JSON.parse(readFileSync(join(home, 'manifest.json'), 'utf8')), {
    version: `${version}+cpu`,
    source: 'archive',
    libraries: { 'torch/lib/libtorch_cpu.so': 7 },
    sha256: { 'torch/lib/libtorch_cpu.so': createHash('sha256').update('library').digest('hex') },
  })
  t.like(findLibtorch({ env: { POSTTRAIN_CACHE: cache } }), { version: `${version}+cpu`, source: 'cache' })
  t.is((await ensure(env, archiveOf(path))).stdout.trim(), join(home, 'torch'))
  t.is(server.requests(), 1)
  server.close()
})

test('an archive with other bytes than the known ones is refused', async (t) => {
  const path = libtorchZip()
  const server = await serve(path)
  const cache = newFolder()
  const env = { PATH: pathOf(), POSTTRAIN_CACHE: cache, POSTTRAIN_LIBTORCH_MIRROR: server.url }
  const { code, stdout } = await ensure(env, { ...archiveOf(path), sha256: '0'.repeat(64) })
  t.is(code, 1)
  t.regex(stdout, /does not have the expected sha256/)
  t.deepEqual(readdirSync(join(cache, 'libtorch')), [])
  server.close()
})

test('two processes at once fetch once', async (t) => {
  const path = libtorchZip()
  const server = await serve(path)
  const env = { PATH: pathOf(), POSTTRAIN_CACHE: newFolder(), POSTTRAIN_LIBTORCH_MIRROR: server.url }
  const ends = await Promise.all([ensure(env, archiveOf(path)), ensure(env, archiveOf(path))])
  for (const { code, stdout } of ends) t.is(code, 0, stdout)
  t.is(server.requests(), 1)
  server.close()
})

test('a lock whose process has gone is taken over', async (t) => {
  const path = libtorchZip()
  const server = await serve(path)
  const cache = newFolder()
  mkdirSync(join(cache, 'libtorch'))
  const gone = execFileSync(process.execPath, ['-p', 'process.pid'], { encoding: 'utf8' }).trim()
  writeFileSync(join(cache, 'libtorch/.lock'), `${gone}\n${hostname()}\n`)
  const env = { PATH: pathOf(), POSTTRAIN_CACHE: cache, POSTTRAIN_LIBTORCH_MIRROR: server.url }
  t.is((await ensure(env, archiveOf(path))).code, 0)
  t.false(existsSync(join(cache, 'libtorch/.lock')))
  server.close()
})

/** A python3 whose pip "downloads" the wheels that it was given, and notes what was asked for. */
function fakePip(wheels: Record<string, string>): { path: string; log: string } {
  const path = pathOf('bash', 'cp', 'env')
  const log = join(path, 'log')
  const cases = Object.entries(wheels).map(
    ([name, wheel]) => `    ${name}==*) cp '${wheel}' "$folder/${name}.whl" ;;`,
  )
  const program = `#!/usr/bin/env bash
[ "$4" = --version ] && { echo pip 23; exit; }
while [ $# -gt 0 ]; do
  case "$1" in
    -d) folder=$2; shift ;;
${cases.join('\n')}
  esac
  case "$1" in *==*) echo "$1" >> '${log}' ;; esac
  shift
done
`
  writeFileSync(join(path, 'python3'), program)
  chmodSync(join(path, 'python3'), 0o755)
  return { path, log }
}

/** A library that asks for others by name, as the linker writes it. */
function libraryNeeding(...names: string[]): string {
  const folder = newFolder()
  for (const name of names) {
    execFileSync('gcc', ['-shared', `-Wl,-soname,${name}`, '-x', 'c', '/dev/null', '-o', join(folder, name)])
  }
  const linked = names.map((name) => join(folder, name))
  execFileSync('gcc', [
    '-shared',
    '-Wl,--no-as-needed',
    '-x',
    'c',
    '/dev/null',
    '-x',
    'none',
    ...linked,
    '-o',
    join(folder, 'a.so'),
  ])
  return readFileSync(join(folder, 'a.so'), 'latin1')
}

/** As zip, with contents of bytes. */
function wheel(entries: Record<string, string>): string {
  const folder = newFolder()
  for (const [name, bytes] of Object.entries(entries)) {
    mkdirSync(join(folder, name, '..'), { recursive: true })
    writeFileSync(join(folder, name), bytes, 'latin1')
  }
  const names = [...new Set(Object.keys(entries).map((name) => name.split('/')[0]!))]
  execFileSync('python3', ['-m', 'zipfile', '-c', 'a.whl', ...names], { cwd: folder })
  return join(folder, 'a.whl')
}

test('from a CUDA wheel the two NVIDIA wheels that its CPU library asks for are fetched too', async (t) => {
  const cpu = libraryNeeding('libcupti.so.13', 'libcudart.so.13')
  const torch = wheel({
    'torch/lib/libtorch_cpu.so': cpu,
    'torch/version.py': `__version__ = '${version}+cu130'\n`,
  })
  const { path, log } = fakePip({
    torch,
    'nvidia-cuda-runtime': wheel({ 'nvidia/cu13/lib/libcudart.so.13': 'runtime' }),
    'nvidia-cuda-cupti': wheel({ 'nvidia/cu13/lib/libcupti.so.13': 'cupti' }),
  })
  const cache = newFolder()
  const { code, stdout } = await ensure({ PATH: path, POSTTRAIN_CACHE: cache })
  t.is(code, 0, stdout)
  const home = join(cache, 'libtorch', `${version}+cu130`)
  t.is(stdout.trim(), join(home, 'torch'))
  t.is(readFileSync(join(home, 'nvidia/cu13/lib/libcupti.so.13'), 'utf8'), 'cupti')
  const asked = readFileSync(log, 'utf8').trim().split('\n')
  t.deepEqual(asked, [`torch==${version}`, 'nvidia-cuda-runtime==13.0.96', 'nvidia-cuda-cupti==13.0.85'])
})

test('from a CPU wheel nothing else is fetched', async (t) => {
  const torch = wheel({
    'torch/lib/libtorch_cpu.so': libraryNeeding('libc10.so'),
    'torch/version.py': `__version__ = '${version}+cpu'\n`,
  })
  const { path, log } = fakePip({ torch })
  const { code, stdout } = await ensure({ PATH: path })
  t.is(code, 0, stdout)
  t.is(readFileSync(log, 'utf8'), `torch==${version}\n`)
})
