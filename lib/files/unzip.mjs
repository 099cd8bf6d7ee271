// Reads .zip and .whl files (stored and deflated entries, zip64, symbolic links), so that no unzip program is needed.
// Plain JavaScript without packages: set-up uses it before anything is compiled or installed.
import { createReadStream, createWriteStream, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname, relative, resolve, sep } from 'node:path'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import * as zlib from 'node:zlib'

/** Larger entries are streamed. */
const inMemory = 8 << 20

const table = new Int32Array(256).map((_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1
  return n
})

function plainCrc32(bytes, value = 0) {
  let crc = value ^ -1
  for (let i = 0; i < bytes.length; i++) crc = table[(crc ^ bytes[i]) & 255] ^ (crc >>> 8)
  return (crc ^ -1) >>> 0
}

/** zlib.crc32 came with Node 20.15. */
const crc32 = zlib.crc32 ?? plainCrc32

function check(entry, size, crc) {
  if (size !== entry.size) throw new Error(`${entry.name} has another size than the archive states`)
  if (crc !== entry.crc) throw new Error(`${entry.name} has a wrong checksum`)
}

function inflated(entry, packed) {
  try {
    return zlib.inflateRawSync(packed, { maxOutputLength: Math.max(1, entry.size) })
  } catch (error) {
    if (error.code !== 'ERR_BUFFER_TOO_LARGE') throw error
    throw new Error(`${entry.name} is larger than the archive states`)
  }
}

function checking(entry) {
  let crc = 0
  let size = 0
  return new Transform({
    transform(chunk, _encoding, next) {
      crc = crc32(chunk, crc)
      size += chunk.length
      // A few packed bytes can become gigabytes.
      next(size > entry.size ? new Error(`${entry.name} is larger than the archive states`) : null, chunk)
    },
    flush(next) {
      try {
        check(entry, size, crc)
        next()
      } catch (error) {
        next(error)
      }
    },
  })
}

async function readAt(file, position, length) {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position)
  if (bytesRead !== length) throw new Error('the file is truncated')
  return buffer
}

/** Fields that do not fit 32 bits are in the zip64 extra field, in this order, only if they are all ones. */
function widen(entry, extra) {
  for (let at = 0; at + 4 <= extra.length; ) {
    const id = extra.readUInt16LE(at)
    const size = extra.readUInt16LE(at + 2)
    let field = at + 4
    if (id === 1) {
      for (const key of ['size', 'packed', 'offset']) {
        if (entry[key] !== 0xffffffff) continue
        entry[key] = Number(extra.readBigUInt64LE(field))
        field += 8
      }
    }
    at += 4 + size
  }
}

async function entriesOf(file) {
  const { size } = await file.stat()
  const length = Math.min(size, 65_557)
  const end = await readAt(file, size - length, length)
  const at = end.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1'))
  if (at < 0) throw new Error('the file is truncated or not a zip archive')
  let count = end.readUInt16LE(at + 10)
  let bytes = end.readUInt32LE(at + 12)
  let start = end.readUInt32LE(at + 16)
  if (count === 0xffff || bytes === 0xffffffff || start === 0xffffffff) {
    const wide = await readAt(file, Number(end.readBigUInt64LE(at - 20 + 8)), 56)
    count = Number(wide.readBigUInt64LE(32))
    bytes = Number(wide.readBigUInt64LE(40))
    start = Number(wide.readBigUInt64LE(48))
  }
  const directory = await readAt(file, start, bytes)
  const entries = []
  for (let n = 0, p = 0; n < count; n++) {
    const nameLength = directory.readUInt16LE(p + 28)
    const extraLength = directory.readUInt16LE(p + 30)
    const entry = {
      name: directory.toString('utf8', p + 46, p + 46 + nameLength),
      method: directory.readUInt16LE(p + 10),
      crc: directory.readUInt32LE(p + 16),
      packed: directory.readUInt32LE(p + 20),
      size: directory.readUInt32LE(p + 24),
      offset: directory.readUInt32LE(p + 42),
      link: directory.readUInt32LE(p + 38) >>> 28 === 0o12,
    }
    widen(entry, directory.subarray(p + 46 + nameLength, p + 46 + nameLength + extraLength))
    entries.push(entry)
    p += 46 + nameLength + extraLength + directory.readUInt16LE(p + 32)
  }
  return entries
}

/** Path of `name` inside the folder; throws if it is outside. */
function placeOf(folder, name, entry) {
  const path = resolve(folder, name)
  if (path.startsWith(resolve(folder) + sep)) return path
  throw new Error(`${entry.name} points outside the folder`)
}

/**
 * Extracts the entries for which `wanted` is true into `folder`; returns their number.
 *
 * @param {string} archive
 * @param {string} folder
 * @param {(name: string) => boolean} [wanted]
 * @param {{ rename?: (name: string) => string, onEntry?: (bytes: number) => void }} [options] `rename` maps the name
 * of an entry; `onEntry` is called with the packed bytes of each entry, skipped ones included.
 * @returns {Promise<number>}
 */
export async function unzip(archive, folder, wanted = () => true, options = {}) {
  const { rename = (name) => name, onEntry = () => undefined } = options
  const file = await open(archive)
  const links = []
  try {
    let count = 0
    for (const entry of await entriesOf(file)) {
      onEntry(entry.packed)
      if (entry.name.endsWith('/') || !wanted(entry.name)) continue
      const path = placeOf(folder, rename(entry.name), entry)
      mkdirSync(dirname(path), { recursive: true })
      const local = await readAt(file, entry.offset, 30)
      const start = entry.offset + 30 + local.readUInt16LE(26) + local.readUInt16LE(28)
      if (entry.method !== 0 && entry.method !== 8)
        throw new Error(`${entry.name} uses an unsupported compression method`)
      if (entry.link || Math.max(entry.packed, entry.size) < inMemory) {
        const packed = await readAt(file, start, entry.packed)
        const bytes = entry.method === 8 ? inflated(entry, packed) : packed
        check(entry, bytes.length, crc32(bytes))
        if (entry.link)
          links.push({ path, target: placeOf(folder, resolve(dirname(path), bytes.toString()), entry) })
        else writeFileSync(path, bytes)
      } else {
        const source = createReadStream(archive, { start, end: start + entry.packed - 1 })
        const inflate = entry.method === 8 ? [zlib.createInflateRaw()] : []
        await pipeline([source, ...inflate, checking(entry), createWriteStream(path)])
      }
      count++
    }
    // At the end, so that no entry is written through a link.
    for (const { path, target } of links) symlinkSync(relative(dirname(path), target), path)
    return count
  } finally {
    await file.close()
  }
}
