import { createReadStream } from 'node:fs'
import { PosttrainError } from '../../errors.js'

/** Maximum bytes of a line or row, of which encoding it needs up to twelve times as many. */
export const MAX_ROW_BYTES = 32 * 2 ** 20

/** Beginnings of files that are not text, with what to do. */
const NOT_TEXT: readonly [beginning: readonly number[], advice: string][] = [
  [[0x1f, 0x8b], 'is compressed by gzip: decompress it (gunzip)'],
  [[0x28, 0xb5, 0x2f, 0xfd], 'is compressed by zstd: decompress it (unzstd)'],
  [[0x50, 0x4b, 0x03, 0x04], 'is a zip archive: unpack it'],
  [[0x50, 0x41, 0x52, 0x31], 'is a Parquet file: convert it to .jsonl'],
  [[0xfd, 0x37, 0x7a, 0x58, 0x5a], 'is compressed by xz: decompress it (unxz)'],
  [[0x42, 0x5a, 0x68], 'is compressed by bzip2: decompress it (bunzip2)'],
  [[0x37, 0x7a, 0xbc, 0xaf], 'is a 7z archive: unpack it'],
  [[0xff, 0xfe], 'is UTF-16: convert the file to UTF-8'],
  [[0xfe, 0xff], 'is UTF-16: convert the file to UTF-8'],
  // Without a byte order mark: `{` or `[` of two bytes.
  [[0x7b, 0x00], 'is UTF-16: convert the file to UTF-8'],
  [[0x5b, 0x00], 'is UTF-16: convert the file to UTF-8'],
  [[0x00, 0x7b], 'is UTF-16: convert the file to UTF-8'],
  [[0x00, 0x5b], 'is UTF-16: convert the file to UTF-8'],
  [
    [...Buffer.from('version https://git-lfs')],
    'is a pointer of Git LFS: fetch the file itself (git lfs pull)',
  ],
]

const BOM = [0xef, 0xbb, 0xbf]

const beginsWith = (bytes: Buffer, beginning: readonly number[]) =>
  beginning.every((byte, i) => bytes[i] === byte)

/** Yields the bytes of a text file in chunks, without a byte order mark. Throws ERR_DATA. */
export async function* chunksOf(path: string): AsyncGenerator<Buffer> {
  try {
    let first = true
    for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
      if (!first) yield chunk
      else {
        const found = NOT_TEXT.find(([beginning]) => beginsWith(chunk, beginning))
        if (found !== undefined) throw new PosttrainError('ERR_DATA', `${path} ${found[1]}`)
        yield beginsWith(chunk, BOM) ? chunk.subarray(BOM.length) : chunk
      }
      first = false
    }
  } catch (cause) {
    if (cause instanceof PosttrainError) throw cause
    throw new PosttrainError('ERR_DATA', `${path} cannot be read: ${(cause as Error).message}`, { cause })
  }
}

/** A line or row that arrives in chunks. */
export class Pieces {
  #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  #pieces: Buffer[] = []
  #size = 0

  get empty(): boolean {
    return this.#size === 0
  }

  add(piece: Buffer): void {
    if (piece.length === 0) return
    this.#pieces.push(piece)
    this.#size += piece.length
  }

  get tooLong(): boolean {
    return this.#size > MAX_ROW_BYTES
  }

  /** Returns the text, null where it is not UTF-8, and begins anew. */
  take(): string | null {
    if (this.empty) return ''
    const pieces = this.#pieces
    this.#pieces = []
    this.#size = 0
    let text = ''
    try {
      for (const piece of pieces) text += this.#decoder.decode(piece, { stream: true })
      return text + this.#decoder.decode()
    } catch {
      this.#decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
      return null
    }
  }
}

export function notUtf8(path: string, number: number): PosttrainError {
  return new PosttrainError('ERR_DATA', `${path}:${number}: the text is not UTF-8: convert the file to UTF-8`)
}

export function tooLong(path: string, number: number, what: string): PosttrainError {
  const limit = `${MAX_ROW_BYTES / 2 ** 20} MiB`
  return new PosttrainError('ERR_DATA', `${path}:${number}: the ${what} is longer than ${limit}`)
}
