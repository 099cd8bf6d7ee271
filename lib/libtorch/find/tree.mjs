// Which files of a libtorch are kept, and its manifest. Plain JavaScript: set-up uses it before anything is compiled.
import { createHash } from 'node:crypto'
import {
  closeSync,
  createReadStream,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
} from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'

const unused = /libtorch_python|test|_with_compiler|custom_ops|libshm/

/**
 * True if an entry of an official archive (`libtorch/`) or of a wheel (`torch/`) is kept.
 *
 * @param {string} name
 */
export function isKept(name) {
  return (
    /^(lib)?torch\/(include\/|version\.py$|build-version$)/.test(name) ||
    (/^(lib)?torch\/lib\/[^/]+\.(so|dll|lib|dylib)[^/]*$/.test(name) && !unused.test(name)) ||
    /^nvidia\/cu13\/lib\/.*\.so/.test(name)
  )
}

/**
 * The version that a libtorch folder says it has, such as 2.13.0+cpu; null where it says none.
 *
 * @param {string} folder
 * @returns {string | null}
 */
export function versionOfTree(folder) {
  for (const name of ['version.py', 'build-version']) {
    const path = join(folder, name)
    if (!existsSync(path)) continue
    const text = readFileSync(path, 'utf8')
    return (/__version__\s*=\s*'([^']+)'/.exec(text) ?? [null, text.trim()])[1] ?? null
  }
  return null
}

/** First bytes of a 64-bit shared library on each platform. */
const MAGIC = {
  linux: [[0x7f, 0x45, 0x4c, 0x46, 2]],
  darwin: [
    [0xcf, 0xfa, 0xed, 0xfe],
    [0xca, 0xfe, 0xba, 0xbe],
  ],
  win32: [[0x4d, 0x5a]],
}

/**
 * True if a file begins as a shared library of this platform does.
 *
 * @param {string} path
 */
export function isLibrary(path) {
  const file = openSync(path, 'r')
  try {
    const head = Buffer.alloc(8)
    readSync(file, head, 0, 8, 0)
    return MAGIC[process.platform]?.some((magic) => magic.every((byte, i) => head[i] === byte)) ?? true
  } finally {
    closeSync(file)
  }
}

/**
 * @param {string} path
 * @returns {Promise<string>} Its sha256 in hexadecimal digits.
 */
export async function hashOf(path) {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash)
  return hash.digest('hex')
}

/**
 * Written last into a folder of the cache: one that has it is whole. Sizes tell a file that was cut, hashes one that was
 * changed.
 *
 * @param {string} home
 * @param {string} version
 * @param {string} source
 * @returns {Promise<{ version: string, source: string, libraries: Record<string, number>, sha256: Record<string, string> }>}
 */
export async function manifestOf(home, version, source) {
  /** @type {Record<string, number>} */
  const libraries = {}
  /** @type {Record<string, string>} */
  const sha256 = {}
  for (const part of ['torch/lib', 'nvidia/cu13/lib']) {
    if (!existsSync(join(home, part))) continue
    for (const name of readdirSync(join(home, part))) {
      libraries[`${part}/${name}`] = statSync(join(home, part, name)).size
      sha256[`${part}/${name}`] = await hashOf(join(home, part, name))
    }
  }
  return { version, source, libraries, sha256 }
}
