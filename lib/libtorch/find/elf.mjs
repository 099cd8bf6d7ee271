// The libraries that a shared library of 64-bit Linux asks for (its DT_NEEDED entries). Plain JavaScript: set-up uses
// it before anything is compiled.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'

/**
 * @param {string} path
 * @returns {string[]} Empty for a file that is no such library.
 */
export function neededBy(path) {
  const file = openSync(path, 'r')
  try {
    const at = (position, length) => {
      const bytes = Buffer.alloc(length)
      if (readSync(file, bytes, 0, length, position) !== length) throw new Error(`${path} is truncated`)
      return bytes
    }
    if (fstatSync(file).size < 64) return []
    const head = at(0, 64)
    if (head.toString('latin1', 0, 4) !== '\x7fELF' || head[4] !== 2) return []
    const size = head.readUInt16LE(54)
    const segments = Array.from({ length: head.readUInt16LE(56) }, (_, n) => {
      const entry = at(Number(head.readBigUInt64LE(32)) + n * size, 56)
      return {
        type: entry.readUInt32LE(0),
        offset: Number(entry.readBigUInt64LE(8)),
        address: Number(entry.readBigUInt64LE(16)),
        length: Number(entry.readBigUInt64LE(32)),
      }
    })
    const dynamic = segments.find((s) => s.type === 2)
    if (!dynamic) return []
    const table = at(dynamic.offset, dynamic.length)
    const tags = []
    for (let p = 0; p + 16 <= table.length; p += 16) {
      tags.push([Number(table.readBigInt64LE(p)), Number(table.readBigUInt64LE(p + 8))])
    }
    const strings = tags.find(([tag]) => tag === 5)?.[1] ?? 0
    const home = segments.find((s) => s.type === 1 && strings >= s.address && strings < s.address + s.length)
    if (!home) return []
    const base = home.offset + strings - home.address
    return tags
      .filter(([tag]) => tag === 1)
      .map(([, offset]) => {
        const text = at(base + offset, 256)
        return text.toString('latin1', 0, text.indexOf(0))
      })
  } finally {
    closeSync(file)
  }
}
