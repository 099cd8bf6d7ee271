import { createReadStream } from 'node:fs'
import { Readable } from 'node:stream'
import { PosttrainError } from '../../errors.js'
import type { Format } from './format.js'

export const json: Format = {
  name: 'JSON',
  endings: ['.json'],
  holds: 'one list of objects',
  async *read(path) {
    const { streamArray } = await import('stream-json/streamers/stream-array.js')
    const parsed = streamArray.withParserAsStream()
    const input = Readable.from(decoded(path))
    input.on('error', (error) => parsed.destroy(error))
    input.pipe(parsed)
    try {
      for await (const { key, value } of parsed as AsyncIterable<{ key: number; value: unknown }>) {
        yield { row: value, origin: { source: path, line: key + 1 } }
      }
    } catch (cause) {
      throw new PosttrainError('ERR_DATA', `${path}: not a JSON list of rows: ${(cause as Error).message}`, {
        cause,
      })
    } finally {
      input.destroy()
    }
  },
}

/** Yields the text of a file in chunks; throws where bytes are not UTF-8. */
async function* decoded(path: string): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  const decode = (bytes?: Uint8Array) => {
    try {
      return decoder.decode(bytes, { stream: bytes !== undefined })
    } catch {
      throw new Error('it is not UTF-8: convert the file to UTF-8')
    }
  }
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    yield decode(chunk)
  }
  yield decode()
}
