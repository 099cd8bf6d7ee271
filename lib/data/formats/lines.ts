import { createReadStream } from 'node:fs'
import { PosttrainError } from '../../errors.js'

/** Maximum bytes of a line: a file without line breaks is not a file of rows. */
const MAX_LINE_BYTES = 256 * 2 ** 20

/**
 * Yields the lines of a file, numbered from 1, without line breaks; `null` where a line is not UTF-8. (Node's readline
 * loses the errors of its stream, and puts U+FFFD where bytes are not UTF-8.)
 */
export async function* linesOf(path: string): AsyncGenerator<{ line: string | null; number: number }> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  let rest: Buffer[] = []
  let size = 0
  let number = 0
  const take = (last: Buffer): { line: string | null; number: number } => {
    const bytes = rest.length === 0 ? last : Buffer.concat([...rest, last])
    rest = []
    size = 0
    number++
    try {
      return { line: decoder.decode(bytes).replace(/\r$/, ''), number }
    } catch {
      return { line: null, number }
    }
  }
  try {
    for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
      let from = 0
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
        yield take(chunk.subarray(from, at))
        from = at + 1
      }
      rest.push(chunk.subarray(from))
      size += chunk.length - from
      if (size > MAX_LINE_BYTES) {
        throw new PosttrainError('ERR_DATA', `${path}:${number + 1}: the line is longer than 256 MiB`)
      }
    }
  } catch (cause) {
    if (cause instanceof PosttrainError) throw cause
    throw new PosttrainError('ERR_DATA', `${path} cannot be read: ${(cause as Error).message}`, { cause })
  }
  if (size > 0) yield take(Buffer.alloc(0))
}

export function notUtf8(path: string, number: number): PosttrainError {
  return new PosttrainError('ERR_DATA', `${path}:${number}: the line is not UTF-8: convert the file to UTF-8`)
}
