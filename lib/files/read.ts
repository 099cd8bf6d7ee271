import { readFile, readlink, stat } from 'node:fs/promises'
import { PosttrainError } from '../errors.js'

const MB = 2 ** 20

/** Largest files of each kind: several times what the largest known model has. */
export const LIMITS = { json: 16 * MB, index: 64 * MB, tokenizer: 128 * MB, template: MB } as const

/** Deepest nesting of a JSON file of a model: known ones have less than 20 levels. */
const MAX_DEPTH = 100

const refused = (path: string, why: string, cause?: unknown) =>
  new PosttrainError('ERR_INVALID_FILE', `${path} ${why}`, { cause })

/**
 * Whether a path is a file, directly or through a link, which is its owner's choice; judged before anything is opened,
 * since opening a named pipe waits and a device has no end. False where there is nothing; ERR_INVALID_FILE for a folder, a
 * device, a pipe, a socket or a broken link, and above `limit` bytes.
 */
export async function isFile(path: string, limit = Number.POSITIVE_INFINITY): Promise<boolean> {
  const found = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') return null
    throw refused(path, `cannot be read: ${cause.message}`, cause)
  })
  if (found === null) {
    const target = await readlink(path).catch(() => null)
    if (target !== null) throw refused(path, `is a link to ${target}, which does not exist`)
    return false
  }
  if (!found.isFile()) throw refused(path, 'is not a file')
  if (found.size > limit)
    throw refused(
      path,
      `has ${(found.size / MB).toFixed(0)} MB, more than the ${limit / MB} MB that such a file may have`,
    )
  return true
}

/** Reads a text file of at most `limit` bytes; null where there is none. */
export async function readTextIfThere(path: string, limit: number): Promise<string | null> {
  if (!(await isFile(path, limit))) return null
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    throw refused(path, `cannot be read: ${(cause as Error).message}`, cause)
  }
}

/** Reads a text file of at most `limit` bytes. */
export async function readText(path: string, limit: number): Promise<string> {
  const text = await readTextIfThere(path, limit)
  if (text === null) throw refused(path, 'does not exist')
  return text
}

/** Parses a JSON file that holds an object, nested at most MAX_DEPTH levels. */
export function parseJsonObject(text: string, where: string): Record<string, unknown> {
  const deep = placeBelow(text, MAX_DEPTH)
  if (deep >= 0) {
    const line = text.slice(0, deep).split('\n').length
    throw refused(`${where}:${line}`, `is nested more than ${MAX_DEPTH} levels deep`)
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw refused(where, `is not valid JSON: ${(cause as Error).message}`, cause)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw refused(where, 'must hold an object')
  return value as Record<string, unknown>
}

/** Place of the first bracket of JSON text that opens more than `depth` levels; -1 where none does. */
function placeBelow(text: string, depth: number): number {
  let level = 0
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case 0x22: // "
        do at = text.indexOf('"', at + 1)
        while (at >= 0 && isEscaped(text, at))
        if (at < 0) return -1
        break
      case 0x5b: // [
      case 0x7b: // {
        if (++level > depth) return at
        break
      case 0x5d: // ]
      case 0x7d: // }
        level--
    }
  }
  return -1
}

/** Whether an odd number of backslashes precede a place. */
function isEscaped(text: string, at: number): boolean {
  let from = at
  while (text[from - 1] === '\\') from--
  return (at - from) % 2 === 1
}
