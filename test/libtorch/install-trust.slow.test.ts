import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { checkLibtorch } from '../../lib/libtorch/find/check.js'
import { damagedLibraries } from '../../lib/libtorch/find/damage.js'
import {
  cacheFolder,
  findLibtorch,
  libtorchConstants,
  searchLibtorch,
} from '../../lib/libtorch/find/libtorch.js'
import { serveArchive } from '../helpers/archive-server.js'
import { runNode } from '../helpers/child.js'
import { entries, install, official } from '../helpers/libtorch-install.js'
import { newFolder } from '../helpers/scratch.js'
import { library, writeZip } from '../helpers/zip.js'

const { version } = libtorchConstants()

test('a file that was changed since it was installed is installed again; doctor tells of it', async (t) => {
  const server = await serveArchive(official)
  const cache = newFolder()
  const env = { POSTTRAIN_CACHE: cache, POSTTRAIN_LIBTORCH_MIRROR: server.url }
  await install({ variant: 'cpu' }, env)
  const found = findLibtorch({ env })
  t.deepEqual(await damagedLibraries(found), [])
  const path = join(found.libraries, 'libc10.so')
  const bytes = readFileSync(path)
  bytes[66]! ^= 1
  writeFileSync(path, bytes)
  checkLibtorch(found)
  t.deepEqual(await damagedLibraries(found), [path])
  t.true((await install({ variant: 'cpu' }, env))?.installed?.isNew)
  t.deepEqual(await damagedLibraries(findLibtorch({ env })), [])
  server.close()
})

test('an archive that lies in the downloads is taken only with the official hash', async (t) => {
  const server = await serveArchive(official)
  const cache = newFolder()
  const planted = writeZip(newFolder(), 'planted.zip', {
    ...entries,
    'libtorch/lib/libc10.so': library('evil'),
  })
  mkdirSync(join(cache, 'libtorch/downloads'), { recursive: true })
  copyFileSync(planted, join(cache, 'libtorch/downloads/libtorch-cpu.zip'))
  const env = { POSTTRAIN_CACHE: cache, POSTTRAIN_LIBTORCH_MIRROR: server.url }
  t.is((await install({ variant: 'cpu' }, env))?.error, undefined)
  t.is(server.asked.length, 1)
  t.is(readFileSync(join(findLibtorch({ env }).libraries, 'libc10.so'), 'latin1'), library('c10'))
  server.close()
})

test('a library that is text is refused', async (t) => {
  const cache = newFolder()
  const text = writeZip(newFolder(), 'libtorch-text.zip', {
    ...entries,
    'libtorch/lib/libtorch_cpu.so': 'library',
  })
  const outcome = await install({ from: text }, { POSTTRAIN_CACHE: cache })
  t.is(outcome?.error?.code, 'ERR_INVALID_FILE')
  t.regex(outcome?.error?.message ?? '', /libtorch_cpu\.so in .* is not a shared library of linux/)
})

test('pip.py and torch of the current folder are never run or opened', async (t) => {
  const folder = newFolder()
  mkdirSync(join(folder, 'torch/lib'), { recursive: true })
  writeFileSync(join(folder, 'torch/__init__.py'), '')
  writeFileSync(join(folder, 'torch/lib/libtorch_cpu.so'), library(''))
  writeFileSync(join(folder, 'torch/version.py'), `__version__ = '${version}'`)
  writeFileSync(join(folder, 'pip.py'), "open('ran', 'w')")
  const program = `
    import { searchLibtorch } from '${new URL('../../lib/libtorch/find/libtorch.js', import.meta.url)}'
    import { pipDownload } from '${new URL('../../lib/libtorch/nvidia.js', import.meta.url)}'
    const { found } = searchLibtorch({ env: { LIBTORCH_USE_PYTORCH: '1', POSTTRAIN_CACHE: '/nowhere' } })
    await pipDownload(['no-such-package==1'], process.cwd(), AbortSignal.timeout(1))
    console.log(JSON.stringify(found?.folder ?? null))`
  const { stdout, stderr } = await runNode(['--input-type=module', '-e', program], { cwd: folder })
  t.false(String(stdout).includes(folder), stdout + stderr)
  t.false(existsSync(join(folder, 'ran')))
})

test('without a home folder there is no cache, and a library in the current folder is not one', (t) => {
  const before = process.env.HOME
  process.env.HOME = ''
  try {
    t.throws(() => cacheFolder({}), {
      code: 'ERR_INVALID_ARGUMENT',
      message: /^HOME is "", not an absolute path/,
    })
    t.is(cacheFolder({ POSTTRAIN_CACHE: '/c' }), '/c')
    t.is(cacheFolder({ XDG_CACHE_HOME: '/x' }), '/x/posttrain')
    t.throws(() => cacheFolder({ XDG_CACHE_HOME: 'x' }), { code: 'ERR_INVALID_ARGUMENT' })
    const { tried } = searchLibtorch({ env: {} })
    t.regex(tried.find(({ source }) => source === 'cache')!.outcome, /HOME is ""/)
  } finally {
    process.env.HOME = before
  }
})
