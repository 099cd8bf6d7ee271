import { execFileSync, spawnSync } from 'node:child_process'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import test from 'ava'
import { loadCore } from '../../lib/addon/load.js'
import { makeFolder, repairFolder, writeFileAtomic, writeFolderAtomic } from '../../lib/files/atomic.js'
import { placeOf, thisProcess } from '../../lib/files/owner.js'
import { removeLeftovers, temporaryName } from '../../lib/files/temporary.js'
import { exchangeOf } from '../../lib/models/save.js'
import { newFolder } from '../helpers/scratch.js'

const no = async () => false
const content = (path: string) => readFileSync(join(path, 'file'), 'utf8')
const fill = (text: string) => (folder: string) => writeFile(join(folder, 'file'), text)

/** A temporary name of a process that has ended. */
function ofDeadProcess(path: string, kind: 'tmp' | 'old'): string {
  const { pid } = spawnSync(process.execPath, ['-e', ''])
  const { pid: own, start } = thisProcess()
  const name = basename(temporaryName(path, kind))
  return join(dirname(path), name.replace(`-${own}-${start}-`, `-${pid}-1-`))
}

test('a folder is replaced by an exchange: the path holds one of the two, whole, at every moment', async (t) => {
  const path = join(newFolder(t), 'model')
  const exchange = exchangeOf(await loadCore())
  await writeFolderAtomic(path, fill('old'))
  await t.throwsAsync(writeFolderAtomic(path, fill('new')), { code: 'ERR_IO', message: /already exists/ })
  const seen = new Set<string>()
  let done = false
  const watch = async () => {
    for (; !done; await new Promise(setImmediate)) seen.add(existsSync(path) ? content(path) : 'nothing')
  }
  const watching = watch()
  for (let i = 0; i < 50; i++) await writeFolderAtomic(path, fill(`${i}`), { replace: exchange })
  done = true
  await watching
  t.false(seen.has('nothing'))
  t.is(content(path), '49')
  t.deepEqual(readdirSync(dirname(path)), ['model'])
})

test('an exchange of a path that is not there is an ERR_IO', async (t) => {
  const folder = newFolder(t)
  const exchange = exchangeOf(await loadCore())
  await t.throwsAsync(exchange(join(folder, 'a'), join(folder, 'b')), {
    code: 'ERR_IO',
    message: /exchanging/,
  })
})

test('of a link the folder that it names is replaced', async (t) => {
  const folder = newFolder(t)
  await writeFolderAtomic(join(folder, 'elsewhere'), fill('old'))
  symlinkSync('elsewhere', join(folder, 'link'))
  await writeFolderAtomic(join(folder, 'link'), fill('new'), { replace: exchangeOf(await loadCore()) })
  t.is(content(join(folder, 'elsewhere')), 'new')
  t.is(content(join(folder, 'link')), 'new')
})

test('a file, a pipe or a device is never replaced by a folder', async (t) => {
  const folder = newFolder(t)
  const exchange = exchangeOf(await loadCore())
  writeFileSync(join(folder, 'file'), 'kept')
  symlinkSync('file', join(folder, 'link'))
  spawnSync('mkfifo', [join(folder, 'pipe')])
  const before = readdirSync(folder)
  for (const name of before)
    for (const replace of [exchange, no, undefined])
      await t.throwsAsync(writeFolderAtomic(join(folder, name), fill('new'), { replace }), {
        code: 'ERR_IO',
        message: /it is there and is not a folder$/,
      })
  t.deepEqual(readdirSync(folder), before)
  t.is(readFileSync(join(folder, 'file'), 'utf8'), 'kept')
})

test('without an exchange there are two renames, and the old folder is whole if the second fails', async (t) => {
  const path = join(newFolder(t), 'model')
  await writeFolderAtomic(path, fill('old'))
  await writeFolderAtomic(path, fill('new'), { replace: no })
  t.is(content(path), 'new')
  // A full disk: the new folder is gone before it can be moved.
  const lost = async (temporary: string) => {
    await rename(temporary, `${temporary}.away`)
    return false
  }
  await t.throwsAsync(writeFolderAtomic(path, fill('third'), { replace: lost }), { code: 'ERR_IO' })
  t.is(content(path), 'new')
})

test('a kill between two renames is repaired: by the next write, and by whoever asks', async (t) => {
  const path = join(newFolder(t), 'model')
  for (const name of [ofDeadProcess(path, 'old'), temporaryName(path, 'old')]) {
    mkdirSync(name)
    await fill('old')(name)
    await repairFolder(path)
    t.is(content(path), 'old')
    await rename(path, name)
    await t.throwsAsync(writeFolderAtomic(path, fill('new')), { message: /already exists/ })
    t.is(content(path), 'old')
    await rename(path, `${path}-${basename(name)}`)
  }
  // Another host may be between its two renames right now.
  const unknown = temporaryName(path, 'old').replace(placeOf(thisProcess()), '0'.repeat(8))
  mkdirSync(unknown)
  await repairFolder(path)
  t.false(existsSync(path))
  await repairFolder(path, true)
  t.true(existsSync(path))
})

test('leftovers are removed if their process is gone; those of the living and the unknown stay', async (t) => {
  const path = join(newFolder(t), '.lock')
  const [gone, own] = [ofDeadProcess(path, 'tmp'), temporaryName(path)]
  const parent = own.replace(`-${process.pid}-${thisProcess().start}-`, `-${process.ppid}--`)
  const before = join(dirname(path), '.lock.0123456789ab')
  const other = join(dirname(path), '.lock.mine.tmp')
  for (const file of [gone, own, parent, before, other]) writeFileSync(file, '')
  await removeLeftovers(path)
  t.deepEqual(
    readdirSync(dirname(path)).sort(),
    [own, parent, before, other].map((file) => basename(file)).sort(),
  )
})

test('folders are made as by mkdir -p, and a folder in which nothing can be made is an error at once', async (t) => {
  const path = join(newFolder(t), 'a/b/c')
  await Promise.all([makeFolder(path), makeFolder(path), makeFolder(join(path, 'd'))])
  t.true(existsSync(join(path, 'd')))
  await makeFolder(path)
  writeFileSync(join(path, 'file'), '')
  await t.throwsAsync(makeFolder(join(path, 'file')), { code: 'EEXIST' })
  await t.throwsAsync(makeFolder(join(path, 'file/e')), { code: 'ENOTDIR' })
  if (process.platform === 'linux') await t.throwsAsync(makeFolder('/proc/x/y'), { code: 'ENOENT' })
})

test('what nobody has touched for a day is a leftover too', async (t) => {
  const path = join(newFolder(t), 'model')
  const other = temporaryName(path).replace(placeOf(thisProcess()), '0'.repeat(8))
  writeFileSync(other, '')
  utimesSync(other, 0, 0)
  await removeLeftovers(path)
  t.deepEqual(readdirSync(dirname(path)), [])
})

test('a file is not written in the place of a pipe or a folder', async (t) => {
  const folder = newFolder(t)
  const pipe = join(folder, 'pipe')
  execFileSync('mkfifo', [pipe])
  for (const path of [pipe, folder])
    await t.throwsAsync(writeFileAtomic(path, 'x'), { code: 'ERR_IO', message: /is not a file$/ })
  t.true(lstatSync(pipe).isFIFO())
  t.deepEqual(readdirSync(folder), ['pipe'])
})
