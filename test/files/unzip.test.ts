import { execFileSync } from 'node:child_process'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { unzip } from '../../lib/files/unzip.mjs'
import { newFolder } from '../helpers/scratch.js'
import { writeZip, type ZipEntries } from '../helpers/zip.js'

const zip = (entries: ZipEntries) => writeZip(newFolder(), 'a.zip', entries)

test('a torn or hostile archive is an error and writes nothing outside', async (t) => {
  const good = zip({ a: 'stored', b: 'deflated'.repeat(100) })
  const bytes = readFileSync(good)
  t.is(await unzip(good, newFolder()), 2)
  const torn = join(newFolder(), 'torn.zip')
  writeFileSync(torn, bytes.subarray(0, bytes.length >> 1))
  await t.throwsAsync(() => unzip(torn, newFolder()), { message: /truncated or not a zip/ })
  const changed = Buffer.from(bytes)
  changed[changed.indexOf('stored')] = 0
  writeFileSync(torn, changed)
  await t.throwsAsync(() => unzip(torn, newFolder()), { message: /a has a wrong checksum/ })
  for (const entries of [{ '../escaped': 'x' }, { a: { link: '../escaped' } }, { a: { link: '/etc' } }]) {
    const folder = newFolder()
    mkdirSync(join(folder, 'in'))
    await t.throwsAsync(() => unzip(zip(entries), join(folder, 'in')), {
      message: /points outside the folder/,
    })
    t.deepEqual(readdirSync(folder), ['in'])
    t.deepEqual(readdirSync(join(folder, 'in')), [])
  }
})

test('an entry that unpacks to more than the archive states is refused before it fills memory or disk', async (t) => {
  const path = zip({ stored: '', bomb: 'a'.repeat(1 << 20) })
  const bytes = readFileSync(path)
  const directory = bytes.lastIndexOf(Buffer.from('PK\x01\x02', 'latin1'))
  // The second is above the size up to which entries are unpacked in memory, with less in it.
  for (const [size, message] of [
    [100, /bomb is larger than the archive states/],
    [9 << 20, /bomb has another size than the archive states/],
  ] as const) {
    bytes.writeUInt32LE(size, directory + 24)
    writeFileSync(path, bytes)
    await t.throwsAsync(() => unzip(path, newFolder()), { message })
  }
})

test('symbolic links, choosing, renaming, and what is told on the way', async (t) => {
  const folder = newFolder()
  const archive = zip({
    'lib/libz.so.1': 'library',
    'lib/libz.so': { link: 'libz.so.1' },
    'doc/readme': 'not wanted',
  })
  let told = 0
  const count = await unzip(archive, folder, (name) => name.startsWith('lib/'), {
    rename: (name) => name.replace('lib/', 'libraries/'),
    onEntry: () => told++,
  })
  t.is(count, 2)
  t.is(told, 3)
  t.true(lstatSync(join(folder, 'libraries/libz.so')).isSymbolicLink())
  t.is(readlinkSync(join(folder, 'libraries/libz.so')), 'libz.so.1')
  t.is(readFileSync(join(folder, 'libraries/libz.so'), 'utf8'), 'library')
  t.false(existsSync(join(folder, 'doc')))
})

test('zip64: fields that are wider than the format has room for', async (t) => {
  const path = join(newFolder(), 'wide.zip')
  // A data descriptor and zip64 records, as a writer makes them that does not know the size before.
  const program = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
    zipfile.ZIP64_LIMIT = 10
    zipfile.ZIP_FILECOUNT_LIMIT = 1
    archive.writestr('a', 'x' * 100)
    archive.writestr('b', 'y' * 100)`
  execFileSync('python3', ['-c', program, path])
  t.true(readFileSync(path).includes(Buffer.from('PK\x06\x06', 'latin1')))
  const folder = newFolder()
  t.is(await unzip(path, folder), 2)
  t.is(readFileSync(join(folder, 'b'), 'utf8'), 'y'.repeat(100))
})
