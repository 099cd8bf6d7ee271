import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { delimiter, join } from 'node:path'
import test from 'ava'
import { checkLibtorch } from '../../lib/libtorch/find/check.js'
import { findLibtorch, libtorchConstants } from '../../lib/libtorch/find/libtorch.js'
import { serveArchive } from '../helpers/archive-server.js'
import { archiveOf, archives, entries, install, official } from '../helpers/libtorch-install.js'
import { newFolder } from '../helpers/scratch.js'
import { writeZip } from '../helpers/zip.js'

const { version } = libtorchConstants()

const homeIn = (cache: string, variant = 'cpu') => join(cache, 'libtorch', `${version}+${variant}`)

/** The cache has one whole libtorch that is found, and nothing beside it. */
function isInstalled(
  t: { is: (a: unknown, b: unknown) => boolean; deepEqual: (a: unknown, b: unknown) => boolean },
  cache: string,
): void {
  const found = findLibtorch({ env: { POSTTRAIN_CACHE: cache } })
  t.is(found.version, `${version}+cpu`)
  t.is(found.source, 'cache')
  checkLibtorch(found)
  t.deepEqual(readdirSync(join(cache, 'libtorch')), [`${version}+cpu`])
  t.deepEqual(readdirSync(found.libraries).sort(), ['libc10.so', 'libtorch_cpu.so'])
}

test('an archive is fetched, unpacked and found; the second time nothing is asked', async (t) => {
  const server = await serveArchive(official)
  const cache = newFolder()
  const env = { POSTTRAIN_CACHE: cache, POSTTRAIN_LIBTORCH_MIRROR: server.url }
  const first = await install({ variant: 'cpu' }, env)
  t.is(first?.error, undefined)
  t.deepEqual(first?.installed, {
    version: `${version}+cpu`,
    folder: join(homeIn(cache), 'torch'),
    isNew: true,
  })
  isInstalled(t, cache)
  t.is(readFileSync(join(homeIn(cache), 'torch/include/ATen/ATen.h'), 'utf8'), 'header')
  const last = first!.events.filter((event) => event.type === 'download').at(-1)!
  t.like(last, { receivedBytes: archives.cpu.bytes, totalBytes: archives.cpu.bytes })
  t.true(first!.events.some((event) => event.type === 'unpack'))
  const again = await install({ variant: 'cpu' }, env)
  t.false(again?.installed?.isNew)
  t.is(server.asked.length, 1)
  t.true((await install({ variant: 'cpu', force: true }, env))?.installed?.isNew)
  t.is(server.asked.length, 2)
  isInstalled(t, cache)
  server.close()
})

test('a server that cuts is asked for the rest, in this process and in the next one', async (t) => {
  const cache = newFolder()
  const partial = join(cache, 'libtorch/downloads/libtorch-cpu.zip.partial')
  const server = await serveArchive(official, { cutAt: partial })
  const env = { POSTTRAIN_CACHE: cache, POSTTRAIN_LIBTORCH_MIRROR: server.url }
  const outcome = await install({ variant: 'cpu' }, env)
  t.is(outcome?.error, undefined)
  t.deepEqual(server.asked, ['all', `bytes=${archives.cpu.bytes >> 1}-`])
  t.true(outcome!.events.some((event) => event.type === 'retry'))
  isInstalled(t, cache)
  server.close()

  // The process dies while the server is silent.
  const other = await serveArchive(official, 'stall')
  const second = newFolder()
  const dying = { POSTTRAIN_CACHE: second, POSTTRAIN_LIBTORCH_MIRROR: other.url }
  t.is(await install({ variant: 'cpu' }, { ...dying, DIE_AT: 'download' }), null)
  t.deepEqual(readdirSync(join(second, 'libtorch/downloads')), ['libtorch-cpu.zip.partial'])
  t.is((await install({ variant: 'cpu' }, dying))?.error, undefined)
  t.deepEqual(other.asked, ['all', 'bytes=100-'])
  isInstalled(t, second)
  other.close()
})

test('wrong bytes, another length and a refusal are errors that leave no libtorch', async (t) => {
  const expected = {
    lie: /sha256 is \w+, expected/,
    longer: /bytes, expected/,
    refuse: /answered 403/,
  } as const
  for (const behaviour of ['lie', 'longer', 'refuse'] as const) {
    const server = await serveArchive(official, behaviour, behaviour)
    const cache = newFolder()
    const env = { POSTTRAIN_CACHE: cache, POSTTRAIN_LIBTORCH_MIRROR: server.url }
    const outcome = await install({ variant: 'cpu' }, env)
    t.is(outcome?.error?.name, 'PosttrainError', behaviour)
    t.true(outcome!.error!.message.includes(server.url), outcome?.error?.message)
    t.regex(outcome!.error!.message, expected[behaviour])
    t.like(outcome?.error, { code: 'ERR_NETWORK' })
    t.regex(outcome!.error!.message, /--from FILE`\.$/)
    t.throws(() => findLibtorch({ env: { POSTTRAIN_CACHE: cache } }), { code: 'ERR_LIBTORCH_NOT_FOUND' })
    t.deepEqual(
      readdirSync(join(cache, 'libtorch')).filter((name) => name !== 'downloads'),
      [],
    )
    server.close()
  }
})

test('two processes at once fetch once', async (t) => {
  const server = await serveArchive(official)
  const cache = newFolder()
  const env = { POSTTRAIN_CACHE: cache, POSTTRAIN_LIBTORCH_MIRROR: server.url }
  const outcomes = await Promise.all([install({ variant: 'cpu' }, env), install({ variant: 'cpu' }, env)])
  t.deepEqual(outcomes.map((outcome) => outcome?.installed?.isNew).sort(), [false, true])
  t.is(server.asked.length, 1)
  isInstalled(t, cache)
  server.close()
})

test('a process that is killed while it unpacks leaves nothing that is found, and the next one cleans up', async (t) => {
  const server = await serveArchive(official)
  const cache = newFolder()
  const env = { POSTTRAIN_CACHE: cache, POSTTRAIN_LIBTORCH_MIRROR: server.url }
  t.is(await install({ variant: 'cpu' }, { ...env, DIE_AT: 'unpack' }), null)
  t.true(readdirSync(join(cache, 'libtorch')).some((name) => name.startsWith('.partial-')))
  t.throws(() => findLibtorch({ env: { POSTTRAIN_CACHE: cache } }), { code: 'ERR_LIBTORCH_NOT_FOUND' })
  t.true((await install({ variant: 'cpu' }, env))?.installed?.isNew)
  // What was fetched was whole.
  t.is(server.asked.length, 1)
  isInstalled(t, cache)
  server.close()
})

test('an abort ends the download or the unpacking', async (t) => {
  for (const type of ['download', 'unpack']) {
    const server = await serveArchive(official)
    const cache = newFolder()
    const env = { POSTTRAIN_CACHE: cache, POSTTRAIN_LIBTORCH_MIRROR: server.url }
    t.is((await install({ variant: 'cpu' }, { ...env, STOP_AT: type }))?.error?.name, 'AbortError')
    t.deepEqual(readdirSync(join(cache, 'libtorch')), ['downloads'])
    server.close()
  }
})

test('the proxy of the environment is asked', async (t) => {
  // Answers any address that it is asked for, as a proxy does.
  const proxy = await serveArchive(official)
  const cache = newFolder()
  const env = {
    POSTTRAIN_CACHE: cache,
    POSTTRAIN_LIBTORCH_MIRROR: 'http://mirror.invalid',
    http_proxy: proxy.url,
  }
  t.is((await install({ variant: 'cpu' }, env))?.error, undefined)
  t.is(proxy.asked.length, 1)
  isInstalled(t, cache)
  proxy.close()
})

test('offline: what to bring, and that it is taken from a file, a wheel, a folder or an unpacked tree', async (t) => {
  const env = () => ({ POSTTRAIN_CACHE: newFolder(), POSTTRAIN_OFFLINE: '1' })
  const refused = await install({ variant: 'cpu' }, env())
  t.is(refused?.error?.code, 'ERR_LIBTORCH_NOT_FOUND')
  t.regex(refused!.error!.message, /POSTTRAIN_OFFLINE=1 .*libtorch-cpu\.zip; .*--from FILE/)
  const wheelEntries = Object.fromEntries(
    Object.entries(entries).map(([name, text]) => [name.replace('libtorch/', 'torch/'), text]),
  )
  const wheel = writeZip(newFolder(), `torch-${version}-py3-none-any.whl`, wheelEntries)
  const folder = newFolder()
  copyFileSync(official, join(folder, 'libtorch-cpu.zip'))
  // Passed over: another version.
  writeZip(folder, 'torch-2.12.0-py3-none-any.whl', { 'torch/version.py': "__version__ = '2.12.0+cpu'" })
  const unpacked = newFolder()
  execFileSync('python3', ['-m', 'zipfile', '-e', official, unpacked])
  for (const from of [official, wheel, folder, unpacked, join(unpacked, 'libtorch')]) {
    const given = env()
    const outcome = await install({ from }, given)
    t.is(outcome?.error, undefined, from)
    t.is(outcome?.installed?.version, `${version}+cpu`)
    isInstalled(t, given.POSTTRAIN_CACHE)
    t.is(readFileSync(join(homeIn(given.POSTTRAIN_CACHE), 'torch/include/ATen/ATen.h'), 'utf8'), 'header')
  }
})

test('files that are not what they should be are refused by name', async (t) => {
  const attempt = async (from: string, variant: 'auto' | 'cpu' | 'cu130' = 'auto') => {
    const outcome = await install({ from, variant }, { POSTTRAIN_CACHE: newFolder() })
    t.true(outcome?.error?.message.includes(from), outcome?.error?.message)
    return outcome!.error!
  }
  const changed = join(newFolder(), 'libtorch-cpu.zip')
  const bytes = readFileSync(official)
  bytes[50] = bytes[50]! ^ 1
  writeFileSync(changed, bytes)
  t.like(await attempt(changed), { code: 'ERR_INVALID_FILE' })
  t.regex((await attempt(changed)).message, /sha256 of .* differs from that of the official file/)
  const torn = join(newFolder(), 'mine.zip')
  writeFileSync(torn, bytes.subarray(0, 1000))
  t.regex((await attempt(torn)).message, /cannot be unpacked: .*truncated/)
  const old = writeZip(newFolder(), 'old.zip', { ...entries, 'libtorch/build-version': '2.12.0+cpu' })
  t.like(await attempt(old), { code: 'ERR_LIBTORCH_VERSION' })
  t.regex(
    (await attempt(old)).message,
    /contains libtorch 2\.12\.0\+cpu, but this version of posttrain needs 2\.13\.0/,
  )
  const renamed = join(newFolder(), 'mine.zip')
  copyFileSync(official, renamed)
  t.regex((await attempt(renamed, 'cu130')).message, /variant cu130 was requested/)
  t.regex((await attempt(newFolder())).message, /no libtorch archive and no wheel/)
  t.regex((await attempt(join(newFolder(), 'nowhere'))).message, /it does not exist/)
  t.regex((await attempt(writeZip(newFolder(), 'other.zip', { a: 'b' }))).message, /no lib\/libtorch_cpu\.so/)
})

test('where there is no archive for a platform, the message says what to do', async (t) => {
  const outcome = await install({ variant: 'cpu' }, { POSTTRAIN_CACHE: newFolder() }, {})
  t.is(outcome?.error?.code, 'ERR_LIBTORCH_NOT_FOUND')
  t.regex(outcome!.error!.message, /no official archive .*pip download .*torch==2\.13\.0.*--from FOLDER/)
})

/** Libraries that ask for others by name, as the linker writes it, by their names. */
function libraries(needs: Record<string, string[]>): Record<string, string> {
  const folder = newFolder()
  const made: Record<string, string> = {}
  for (const [name, needed] of Object.entries(needs)) {
    const linked = needed.map((other) => join(folder, other))
    execFileSync('gcc', [
      '-shared',
      '-nostdlib',
      '-Wl,--no-as-needed',
      `-Wl,-soname,${name}`,
      ...['-x', 'c', '/dev/null', '-x', 'none'],
      ...linked,
      ...['-o', join(folder, name)],
    ])
    made[name] = readFileSync(join(folder, name), 'latin1')
  }
  return made
}

// In the order in which they ask for each other; the driver's own library is never fetched.
const made = libraries({
  'libcuda.so.1': [],
  'libcudart.so.13': [],
  'libnvJitLink.so.13': [],
  'libcusparse.so.12': ['libnvJitLink.so.13'],
  'libtorch_cpu.so': ['libcudart.so.13'],
  'libtorch_cuda.so': ['libcusparse.so.12', 'libcuda.so.1'],
})
const cuda = writeZip(newFolder(), 'libtorch-cu130.zip', {
  'libtorch/build-version': `${version}+cu130`,
  'libtorch/lib/libtorch_cpu.so': made['libtorch_cpu.so']!,
  'libtorch/lib/libtorch_cuda.so': made['libtorch_cuda.so']!,
})
const cudaArchives = { cu130: { ...archiveOf(cuda), path: 'cu130/libtorch-cu130.zip' } }
const wheelOf = (folder: string, name: string, library: string, part = 'cu13') =>
  writeZip(folder, `${name}-py3-none-any.whl`, {
    [`nvidia/${part}/lib/${library}`]: made[library]!,
    [`nvidia/${part}/include/a.h`]: 'not wanted',
    [`${name}.dist-info/License.txt`]: 'licence',
  })

/** A python3 whose pip copies the wheels of a folder, and notes what it was asked for. */
function fakePip(wheels: string): { path: string; asked: () => string[] } {
  const path = newFolder()
  const log = join(path, 'log')
  writeFileSync(log, '')
  const program = `#!/bin/sh
[ "$4" = --version ] && exit 0
while [ $# -gt 0 ]; do
  case "$1" in
    --dest) folder=$2; shift ;;
    *==*) echo "$1" >> '${log}'
      cp '${wheels}/'$(echo "$1" | tr - _ | sed 's/==.*//')-* "$folder" || { echo "no $1" >&2; exit 1; } ;;
  esac
  shift
done
`
  writeFileSync(join(path, 'python3'), program)
  chmodSync(join(path, 'python3'), 0o755)
  return {
    path: [path, ...process.env.PATH!.split(delimiter)].join(delimiter),
    asked: () => readFileSync(log, 'utf8').split('\n').filter(Boolean),
  }
}

test("CUDA: what the archive's libraries ask for is fetched with pip, and what these ask for as well", async (t) => {
  const wheels = newFolder()
  for (const [name, library] of [
    ['nvidia_cuda_runtime', 'libcudart.so.13'],
    ['nvidia_cusparse', 'libcusparse.so.12'],
    ['nvidia_nvjitlink', 'libnvJitLink.so.13'],
  ] as const)
    wheelOf(wheels, name, library)
  const pip = fakePip(wheels)
  const server = await serveArchive(cuda)
  const cache = newFolder()
  const env = { POSTTRAIN_CACHE: cache, POSTTRAIN_LIBTORCH_MIRROR: server.url, PATH: pip.path }
  const outcome = await install({ variant: 'cu130' }, env, cudaArchives)
  t.is(outcome?.error, undefined)
  t.is(outcome?.installed?.version, `${version}+cu130`)
  t.deepEqual(pip.asked(), [
    'nvidia-cuda-runtime==13.0.96',
    'nvidia-cusparse==12.6.3.3',
    'nvidia-nvjitlink==13.5.37',
  ])
  const home = homeIn(cache, 'cu130')
  t.deepEqual(readdirSync(join(home, 'torch/lib')).sort(), [
    'libcudart.so.13',
    'libcusparse.so.12',
    'libnvJitLink.so.13',
    'libtorch_cpu.so',
    'libtorch_cuda.so',
  ])
  t.is(readFileSync(join(home, 'licenses/nvidia_cusparse/License.txt'), 'utf8'), 'licence')
  t.deepEqual(readdirSync(join(cache, 'libtorch')), [`${version}+cu130`])
  server.close()
})

test('CUDA without pip: which libraries are missing and the exact command; then they are taken from its folder', async (t) => {
  const server = await serveArchive(cuda)
  const cache = newFolder()
  // What is left of PATH has no python.
  const env = { POSTTRAIN_CACHE: cache, POSTTRAIN_LIBTORCH_MIRROR: server.url, PATH: newFolder() }
  const refused = await install({ variant: 'cu130' }, env, cudaArchives)
  t.is(refused?.error?.code, 'ERR_LIBTORCH_NOT_FOUND')
  t.regex(
    refused!.error!.message,
    /needs libcudart\.so\.13, libcusparse\.so\.12, .*pip is not installed.*pip download .*--dest FOLDER nvidia-cuda-runtime==13\.0\.96 nvidia-cusparse==12\.6\.3\.3`, then here `posttrain libtorch install --variant cu130 --from FOLDER`/,
  )
  t.false(existsSync(homeIn(cache, 'cu130')))
  const wheels = newFolder()
  wheelOf(wheels, 'nvidia_cuda_runtime', 'libcudart.so.13')
  wheelOf(wheels, 'nvidia_cusparse', 'libcusparse.so.12')
  wheelOf(wheels, 'nvidia_nvjitlink', 'libnvJitLink.so.13')
  const outcome = await install({ variant: 'cu130', from: wheels }, env, cudaArchives)
  t.is(outcome?.error, undefined)
  t.true(statSync(join(homeIn(cache, 'cu130'), 'torch/lib/libnvJitLink.so.13')).size > 0)
  // The archive of the first attempt was kept.
  t.is(server.asked.length, 1)
  server.close()
})

test('CUDA: a library that no known package has is named', async (t) => {
  const odd = libraries({ 'libcuodd.so.1': [], 'libtorch_cpu.so': ['libcuodd.so.1'] })
  const archive = writeZip(newFolder(), 'odd.zip', {
    'libtorch/build-version': `${version}+cu130`,
    'libtorch/lib/libtorch_cpu.so': odd['libtorch_cpu.so']!,
  })
  const outcome = await install({ from: archive }, { POSTTRAIN_CACHE: newFolder() })
  t.regex(outcome?.error?.message ?? '', /needs libcuodd\.so\.1, .*no known package has libcuodd\.so\.1/)
})
