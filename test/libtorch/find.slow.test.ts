import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { cudaMode, findBuild, type LoadState } from '../../lib/addon/load.js'
import { checkLibtorch } from '../../lib/libtorch/find/check.js'
import {
  findLibtorch,
  libtorchConstants,
  searchLibtorch,
  unpacked,
} from '../../lib/libtorch/find/libtorch.js'
import { runNode } from '../helpers/child.js'
import { newFolder } from '../helpers/scratch.js'

const real = findLibtorch()

/** A libtorch folder made of links to the real one; what `change` names is left to the test. */
function tree(changed: string[] = []): { folder: string; library: (name: string) => string } {
  const folder = newFolder()
  mkdirSync(join(folder, 'lib'))
  for (const name of readdirSync(real.libraries)) {
    // CUDA libraries of a CUDA build stay out: the tests that are about CUDA put their own there.
    if (changed.includes(name) || /cuda|nvrtc|nvshmem/.test(name)) continue
    symlinkSync(join(real.libraries, name), join(folder, 'lib', name))
  }
  return { folder, library: (name) => join(folder, 'lib', name) }
}

function compile(output: string, source: string): void {
  execFileSync('gcc', ['-shared', '-fPIC', '-x', 'c', '-', '-o', output], { input: source })
}

interface Opened {
  code: number | null
  error?: { name: string; code?: string; message: string }
  loss?: number
  info?: { cuda: { opened: boolean } }
  state?: LoadState
}

/** Opens the core in a child; a child that dies has no JSON and another code than 0. */
async function open(env: Record<string, string>): Promise<Opened> {
  const program = fileURLToPath(new URL('./open-child.js', import.meta.url))
  const clean = { LIBTORCH: '', POSTTRAIN_CUDA: '', POSTTRAIN_CACHE: newFolder() }
  const { code, stdout } = await runNode([program], { env: { ...clean, ...env } })
  return { code, ...(stdout ? JSON.parse(stdout) : {}) }
}

const opened = (
  t: { is: (a: unknown, b: unknown) => boolean; true: (a: boolean) => boolean },
  result: Opened,
) => {
  t.is(result.error, undefined)
  t.is(result.code, 0)
  t.true(Math.abs(result.loss! - Math.log(2)) < 1e-6)
}

test('a folder without libtorch is refused by the name of what pointed at it', async (t) => {
  const folder = newFolder()
  for (const name of ['POSTTRAIN_LIBTORCH', 'LIBTORCH'] as const) {
    const { code, error } = await open({ POSTTRAIN_LIBTORCH: '', [name]: folder })
    t.is(code, 0)
    t.is(error?.name, 'PosttrainError')
    t.is(error?.code, 'ERR_LIBTORCH_NOT_FOUND')
    t.true(error?.message.includes(`${name} (${folder})`), error?.message)
  }
})

test('no libtorch at all: the error says where it was looked for and what to do', async (t) => {
  const cache = newFolder()
  const { code, error } = await open({ POSTTRAIN_LIBTORCH: '', POSTTRAIN_CACHE: cache })
  t.is(code, 0)
  t.is(error?.code, 'ERR_LIBTORCH_NOT_FOUND')
  t.true(error?.message.includes(join(cache, 'libtorch')), error?.message)
  t.regex(error?.message ?? '', /LIBTORCH: not set; .*run `npx posttrain libtorch install`/)
})

test('a missing library is a typed error that names it', async (t) => {
  const { folder } = tree(['libc10.so'])
  const { code, error } = await open({ POSTTRAIN_LIBTORCH: folder })
  t.is(code, 0)
  t.is(error?.code, 'ERR_LIBTORCH_LOAD')
  t.regex(error?.message ?? '', /libc10\.so.*No such file/)
})

test('another library under the name of libtorch_cpu is a typed error', async (t) => {
  const { folder, library } = tree(['libtorch_cpu.so'])
  copyFileSync(join(real.libraries, 'libc10.so'), library('libtorch_cpu.so'))
  const { code, error } = await open({ POSTTRAIN_LIBTORCH: folder })
  t.is(code, 0)
  t.is(error?.code, 'ERR_LIBTORCH_VERSION')
  t.regex(error?.message ?? '', /does not report its version/)
})

test('a file that is no library is a typed error', async (t) => {
  const { folder, library } = tree(['libtorch_cpu.so'])
  writeFileSync(library('libtorch_cpu.so'), '<html>not found</html>'.repeat(100))
  const { code, error } = await open({ POSTTRAIN_LIBTORCH: folder })
  t.is(code, 0)
  t.is(error?.code, 'ERR_LIBTORCH_LOAD')
  t.regex(error?.message ?? '', /libtorch_cpu\.so: invalid ELF header/)
})

test('a truncated library ends a child process and not this one', async (t) => {
  const { folder, library } = tree(['libc10.so'])
  const path = library('libc10.so')
  copyFileSync(join(real.libraries, 'libc10.so'), path)
  truncateSync(path, Math.round(statSync(path).size * 0.6))
  const { code, error } = await open({ POSTTRAIN_LIBTORCH: folder })
  t.is(code, 0)
  t.is(error?.code, 'ERR_LIBTORCH_LOAD')
  t.true(error?.message.includes(path), error?.message)
  t.regex(error?.message ?? '', /ends the process \(SIG\w+\)/)
})

test('another minor version is refused before the core is opened', async (t) => {
  const { folder, library } = tree(['libtorch_cpu.so'])
  compile(
    library('libtorch_cpu.so'),
    'unsigned long aoti_torch_abi_version(void) { return 0x020e010000000000ul; }',
  )
  const { code, error } = await open({ POSTTRAIN_LIBTORCH: folder })
  t.is(code, 0)
  t.is(error?.code, 'ERR_LIBTORCH_VERSION')
  t.regex(
    error?.message ?? '',
    /2\.14\.1.*needs 2\.13; unset POSTTRAIN_LIBTORCH and run `npx posttrain libtorch install`/,
  )
})

test('a folder that states another version is refused without opening anything', async (t) => {
  const folder = newFolder()
  mkdirSync(join(folder, 'lib'))
  writeFileSync(join(folder, 'lib/libtorch_cpu.so'), '')
  writeFileSync(join(folder, 'version.py'), "__version__ = '2.12.1+cpu'\n")
  const { error } = await open({ POSTTRAIN_LIBTORCH: folder })
  t.is(error?.code, 'ERR_LIBTORCH_VERSION')
  t.regex(error?.message ?? '', /2\.12\.1\+cpu.*needs 2\.13; unset POSTTRAIN_LIBTORCH/)
})

test('the CPU goes on after a CUDA library that is none', async (t) => {
  const { folder, library } = tree()
  writeFileSync(library('libtorch_cuda.so'), 'nothing'.repeat(1000))
  const result = await open({ POSTTRAIN_LIBTORCH: folder, POSTTRAIN_CUDA: '1' })
  opened(t, result)
  t.false(result.info!.cuda.opened)
  t.regex(result.state!.verdict.cudaError, /libtorch_cuda\.so: invalid ELF header/)
})

test('the CPU goes on where opening the CUDA library would end the process', async (t) => {
  const { folder, library } = tree()
  const source = '#include <signal.h>\n__attribute__((constructor)) static void die(void) { raise(SIGBUS); }'
  compile(library('libtorch_cuda.so'), source)
  const result = await open({ POSTTRAIN_LIBTORCH: folder, POSTTRAIN_CUDA: '1' })
  opened(t, result)
  t.is(result.state!.verdict.mode, 'off')
  t.regex(result.state!.verdict.cudaError, /libtorch_cuda\.so ends the process \(SIGBUS\)/)
})

test('POSTTRAIN_CUDA=0 leaves the CUDA library closed', async (t) => {
  const { folder, library } = tree()
  writeFileSync(library('libtorch_cuda.so'), 'nothing')
  const result = await open({ POSTTRAIN_LIBTORCH: folder, POSTTRAIN_CUDA: '0' })
  opened(t, result)
  t.is(result.state!.verdict.cudaError, '')
})

test('a libtorch that was found good is not tried in a child again until it changes', async (t) => {
  const cache = newFolder()
  const { folder, library } = tree(['libc10.so'])
  copyFileSync(join(real.libraries, 'libc10.so'), library('libc10.so'))
  const env = { POSTTRAIN_LIBTORCH: folder, POSTTRAIN_CACHE: cache }
  opened(t, await open(env))
  const verdicts = join(cache, 'verdicts')
  const [first, ...others] = readdirSync(verdicts)
  t.deepEqual(others, [])
  const path = join(verdicts, first!)
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), version: 'remembered' }))
  t.is((await open(env)).state?.verdict.version, 'remembered')
  utimesSync(library('libc10.so'), 1, 1)
  t.is((await open(env)).state?.verdict.version, libtorchConstants().version)
})

test('two processes at once open a libtorch that neither has seen', async (t) => {
  const env = { POSTTRAIN_LIBTORCH: tree().folder, POSTTRAIN_CACHE: newFolder() }
  for (const result of await Promise.all([open(env), open(env)])) opened(t, result)
})

test('where the cache cannot be written, it is asked again each time', async (t) => {
  const file = join(newFolder(), 'file')
  closeSync(openSync(file, 'w'))
  opened(t, await open({ POSTTRAIN_LIBTORCH: tree().folder, POSTTRAIN_CACHE: file }))
})

/** A cache with empty stand-ins of a libtorch; nothing of it is opened. */
function cached(variant: string, bytes = 0): string {
  const cache = newFolder()
  addTo(cache, variant, bytes)
  return cache
}
function addTo(cache: string, variant: string, bytes = 0): void {
  const home = join(cache, 'libtorch', `${libtorchConstants().version}+${variant}`)
  mkdirSync(join(home, 'torch/lib'), { recursive: true })
  writeFileSync(join(home, 'torch/lib/libtorch_cpu.so'), '')
  writeFileSync(
    join(home, 'manifest.json'),
    JSON.stringify({ libraries: { 'torch/lib/libtorch_cpu.so': bytes } }),
  )
}

test('a library in the cache that has lost bytes is found out by its size', async (t) => {
  const { error } = await open({ POSTTRAIN_LIBTORCH: '', POSTTRAIN_CACHE: cached('cpu', 9) })
  t.is(error?.code, 'ERR_LIBTORCH_LOAD')
  t.regex(
    error?.message ?? '',
    /libtorch_cpu\.so has 0 bytes instead of 9; run `npx posttrain libtorch install --variant cpu --force`/,
  )
})

test('order: option, POSTTRAIN_LIBTORCH, LIBTORCH, cache', (t) => {
  const [option, first, second] = [tree().folder, tree().folder, tree().folder]
  const cache = cached('cpu')
  const env = { POSTTRAIN_LIBTORCH: first, LIBTORCH: second, POSTTRAIN_CACHE: cache }
  t.is(findLibtorch({ folder: option, env }).folder, option)
  t.like(findLibtorch({ env }), { folder: first, source: 'POSTTRAIN_LIBTORCH' })
  t.like(findLibtorch({ env: { ...env, POSTTRAIN_LIBTORCH: '' } }), { folder: second, source: 'LIBTORCH' })
  t.is(findLibtorch({ env: { POSTTRAIN_CACHE: cache } }).source, 'cache')
  t.is(findLibtorch({ folder: join(option, 'lib'), env }).libraries, join(option, 'lib'))
})

test('a Python torch is taken when it is asked for, last, and only of the same minor version', (t) => {
  const python = (version: string | null) => {
    const folder = newFolder()
    const torch = version === null ? join(folder, 'nowhere') : tree().folder
    if (version !== null) writeFileSync(join(torch, 'version.py'), `__version__ = '${version}'\n`)
    writeFileSync(join(folder, 'python3'), `#!/bin/sh\necho '${torch}'\n`)
    chmodSync(join(folder, 'python3'), 0o755)
    return { env: { PATH: folder, POSTTRAIN_CACHE: newFolder(), LIBTORCH_USE_PYTORCH: '1' }, torch }
  }
  const good = python('2.13.1+cpu')
  t.like(findLibtorch({ env: good.env }), { folder: good.torch, source: 'python', version: '2.13.1+cpu' })
  t.throws(() => findLibtorch({ env: { ...good.env, LIBTORCH_USE_PYTORCH: '0' } }), {
    message: /python3: not enabled/,
  })
  t.is(findLibtorch({ env: { ...good.env, POSTTRAIN_CACHE: cached('cpu') } }).source, 'cache')
  t.throws(() => findLibtorch({ env: python('2.12.0').env }), {
    message: /python3: version 2\.12\.0 in .*, but 2\.13 is needed/,
  })
  t.throws(() => findLibtorch({ env: python(null).env }), { message: /python3: no lib\/libtorch_cpu\.so/ })
})

test('another version in the cache is named where nothing else is found', (t) => {
  const cache = newFolder()
  mkdirSync(join(cache, 'libtorch/2.12.0+cpu'), { recursive: true })
  const { found, tried } = searchLibtorch({ env: { POSTTRAIN_CACHE: cache } })
  t.is(found, null)
  t.is(tried.find(({ source }) => source === 'cache')?.outcome, 'only 2.12.0+cpu, no complete 2.13.0')
})

test('of two in the cache the CUDA one is taken, unless POSTTRAIN_CUDA=0; one without a manifest is not seen', (t) => {
  const cache = cached('cpu')
  addTo(cache, 'cu130')
  t.regex(findLibtorch({ env: { POSTTRAIN_CACHE: cache } }).folder, /\+cu130/)
  t.regex(findLibtorch({ env: { POSTTRAIN_CACHE: cache, POSTTRAIN_CUDA: '0' } }).folder, /\+cpu/)
  rmSync(join(cache, 'libtorch', `${libtorchConstants().version}+cu130`, 'manifest.json'))
  t.regex(findLibtorch({ env: { POSTTRAIN_CACHE: cache } }).folder, /\+cpu/)
  t.notThrows(() => checkLibtorch(findLibtorch({ env: { POSTTRAIN_CACHE: cache } })))
})

test('inside app.asar the unpacked file beside it is taken, where there is one', (t) => {
  const folder = newFolder()
  mkdirSync(join(folder, 'app.asar.unpacked/x'), { recursive: true })
  t.is(unpacked(join(folder, 'app.asar/x')), join(folder, 'app.asar.unpacked/x'))
  t.is(unpacked(join(folder, 'app.asar/y')), join(folder, 'app.asar/y'))
})

test('POSTTRAIN_CUDA and POSTTRAIN_BUILD take only what they know', (t) => {
  t.is(cudaMode({}), 'auto')
  t.is(cudaMode({ POSTTRAIN_CUDA: '0' }), 'off')
  t.is(cudaMode({ POSTTRAIN_CUDA: '1' }), 'on')
  t.throws(() => cudaMode({ POSTTRAIN_CUDA: 'yes' }), {
    message: /POSTTRAIN_CUDA is yes; it must be 0, 1 or unset/,
  })
  t.throws(() => findBuild({ POSTTRAIN_BUILD: 'make' }), {
    message: /POSTTRAIN_BUILD is make; it must be cmake, gyp/,
  })
})
