import { createHash, type Hash } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, open, rename, rm, stat, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { AbortError, PosttrainError } from '../errors.js'
import { ioError, makeFolder, syncPath } from './atomic.js'
import { type Answer, isTemporary, pause, request, retryAfterMs, STALL_TIMEOUT_MS, shown } from './http.js'

export interface DownloadProgress {
  /** Bytes downloaded so far, earlier attempts included. */
  receivedBytes: number
  /** null if the server does not state it. */
  totalBytes: number | null
}

export interface DownloadOptions {
  /** Expected hash; with one, a partial file of an earlier process is resumed. */
  sha256?: string | undefined
  /** Git blob hash of a file of `expectedBytes`. */
  gitSha1?: string
  expectedBytes?: number
  /** Partial file; default `<path>.partial`. */
  partial?: string
  headers?: Record<string, string>
  /** Turns an unsuccessful response into an error; by default one that names its status. */
  refusal?: (answer: Answer) => PosttrainError
  onProgress?: (progress: DownloadProgress) => void
  /** Called before each retry. */
  onRetry?: (reason: Error) => void
  signal?: AbortSignal | undefined
  /** Retries in a row without a MiB of progress; default 5. */
  retries?: number
  /** Delay before the first retry; doubles up to 30 seconds. Default one second. */
  retryDelayMs?: number
  /** Maximum time with less than a KiB a second from the server; default 30 seconds. */
  stallTimeoutMs?: number
}

/** A failed attempt that may be retried. */
interface Setback {
  reason: PosttrainError
  waitMs?: number | null
}

const PROGRESS_BYTES = 2 ** 20
/** Bytes a second below which a transfer is taken for stalled. */
const MIN_RATE = 1024

/**
 * Downloads a URL into a file, complete and verified or not at all. An interrupted transfer is resumed (Range), by this
 * call or a later one. Only one call per path at a time: see `waitForLock`.
 *
 * @throws PosttrainError ERR_NETWORK if the server cannot be reached, refuses, or sends unexpected bytes; ERR_IO if they
 * cannot be written; AbortError.
 */
export async function download(
  url: string | URL,
  path: string,
  options: DownloadOptions = {},
): Promise<{ bytes: number }> {
  const partial = options.partial ?? `${path}.partial`
  let file: FileHandle
  try {
    await makeFolder(dirname(path))
    file = await open(partial, constants.O_RDWR | constants.O_CREAT)
  } catch (cause) {
    throw ioError('writing', partial, cause)
  }
  const transfer = new Transfer(new URL(url), { file, folder: dirname(partial) }, options)
  try {
    try {
      await transfer.run()
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(partial, path).catch(async (error: NodeJS.ErrnoException) => {
      // Another process, not held back by the lock, finished the same bytes first.
      const there = await stat(path).catch(() => null)
      if (error.code !== 'ENOENT' || there?.size !== transfer.received) throw error
    })
    await syncPath(dirname(path))
    return { bytes: transfer.received }
  } catch (error) {
    if (transfer.received === 0) await rm(partial, { force: true })
    throw error instanceof Error && 'syscall' in error ? ioError('writing', path, error) : error
  }
}

class Transfer {
  received = 0
  readonly #url: URL
  readonly #file: FileHandle
  readonly #folder: string
  readonly #options: DownloadOptions
  #hash: Hash
  /** Strong ETag of the partial file's version, if the server sends one. */
  #validator: string | null = null
  #total: number | null

  constructor(url: URL, to: { file: FileHandle; folder: string }, options: DownloadOptions) {
    this.#url = url
    this.#file = to.file
    this.#folder = to.folder
    this.#options = options
    this.#total = options.expectedBytes ?? null
    this.#hash = this.#newHash()
  }

  async run(): Promise<void> {
    const { retries = 5, retryDelayMs = 1000, signal, onRetry } = this.#options
    await this.#takeUp()
    let resumed = this.received > 0
    let failed = 0
    for (;;) {
      const before = this.received
      const setback = this.#isWhole() ? null : await this.#attempt()
      if (setback === null) {
        const wrong = this.#wrong()
        if (wrong === null) return
        await this.#restart()
        // Bytes of an earlier process may belong to another version of the file: restart once.
        if (!resumed) throw wrong
        resumed = false
        onRetry?.(wrong)
        continue
      }
      if (this.received - before >= PROGRESS_BYTES) failed = 0
      if (failed >= retries) throw setback.reason
      onRetry?.(setback.reason)
      await pause(setback.waitMs ?? Math.min(30_000, retryDelayMs * 2 ** failed), signal)
      failed++
    }
  }

  /** Hashes the partial file of an earlier process. Without an expected hash it cannot be verified and is discarded. */
  async #takeUp(): Promise<void> {
    const { size } = await this.#file.stat()
    const { sha256, gitSha1 } = this.#options
    const fits = size <= (this.#total ?? Number.POSITIVE_INFINITY)
    if ((sha256 === undefined && gitSha1 === undefined) || !fits) return await this.#restart()
    const buffer = Buffer.alloc(Math.min(size, 2 ** 20))
    while (this.received < size) {
      if (this.#options.signal?.aborted) throw new AbortError(this.#options.signal.reason)
      const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, this.received)
      if (bytesRead === 0) break
      this.#hash.update(buffer.subarray(0, bytesRead))
      this.received += bytesRead
    }
  }

  async #restart(): Promise<void> {
    await this.#file.truncate(0)
    this.received = 0
    this.#validator = null
    this.#hash = this.#newHash()
  }

  #newHash(): Hash {
    const { gitSha1, expectedBytes } = this.#options
    if (gitSha1 === undefined) return createHash('sha256')
    return createHash('sha1').update(`blob ${expectedBytes}\0`)
  }

  #isWhole(): boolean {
    return this.#total !== null && this.received === this.#total
  }

  #wrong(): PosttrainError | null {
    const { sha256, gitSha1 } = this.#options
    const expected = (sha256 ?? gitSha1)?.toLowerCase()
    const got = this.#hash.digest('hex')
    if (expected === undefined || got === expected) return null
    const name = sha256 === undefined ? 'git hash' : 'sha256'
    return this.#refused(`its ${name} is ${got}, expected ${expected}: the server or a proxy changed it`)
  }

  #refused(why: string, cause?: unknown): PosttrainError {
    return new PosttrainError('ERR_NETWORK', `${shown(this.#url)} cannot be downloaded: ${why}`, { cause })
  }

  /** Sends one request; null when the body was received to its end. */
  async #attempt(): Promise<Setback | null> {
    const { headers, signal, stallTimeoutMs = STALL_TIMEOUT_MS } = this.#options
    const range: Record<string, string> = {}
    if (this.received > 0) {
      range.Range = `bytes=${this.received}-`
      if (this.#validator !== null) range['If-Range'] = this.#validator
    }
    let answer: Answer
    try {
      answer = await request(this.#url, { headers: { ...headers, ...range }, signal, stallTimeoutMs })
    } catch (reason) {
      if (reason instanceof PosttrainError) return { reason }
      throw reason
    }
    try {
      const setback = await this.#begin(answer)
      if (setback !== null) return setback
      return await this.#receive(answer)
    } finally {
      answer.body.destroy()
    }
  }

  /** Reads the headers: offset and size of the body. */
  async #begin(answer: Answer): Promise<Setback | null> {
    const { status, headers } = answer
    if (isTemporary(status)) {
      return { reason: this.#refused(`the server answered ${status}`), waitMs: retryAfterMs(answer) }
    }
    if (status === 416) {
      await this.#restart()
      return { reason: this.#refused('the server has fewer bytes than were already downloaded'), waitMs: 0 }
    }
    if (status !== 200 && status !== 206)
      throw this.#options.refusal?.(answer) ?? this.#refused(`the server answered ${status}`)
    let total: number | null = null
    if (status === 206) {
      const [, from, of] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers['content-range'] ?? '') ?? []
      if (Number(from) !== this.received) {
        await this.#restart()
        return { reason: this.#refused('the server sent a different byte range than requested'), waitMs: 0 }
      }
      total = of === '*' ? null : Number(of)
    } else {
      if (this.received > 0) await this.#restart()
      if (headers['content-length'] !== undefined) total = Number(headers['content-length'])
    }
    const expected = this.#options.expectedBytes ?? null
    if (total !== null && expected !== null && total !== expected)
      throw this.#refused(`it has ${total} bytes, expected ${expected}`)
    this.#total = expected ?? total
    const { etag } = headers
    this.#validator = etag?.startsWith('"') ? etag : null
    await this.#checkSpace()
    return null
  }

  async #checkSpace(): Promise<void> {
    const space = await statfs(this.#folder).catch(() => null)
    if (this.#total === null || space === null) return
    const free = space.bavail * space.bsize
    const needed = this.#total - this.received
    if (free >= needed) return
    throw new PosttrainError(
      'ERR_IO',
      `${this.#folder} has ${free} bytes free, ${shown(this.#url)} needs ${needed}: free some disk space`,
    )
  }

  async #receive({ body }: Answer): Promise<Setback | null> {
    const { signal, onProgress, stallTimeoutMs = STALL_TIMEOUT_MS } = this.#options
    let broken: Error | null = null
    let [waiting, before] = [true, this.received]
    // Single bytes keep a connection from being silent.
    const watch = setInterval(() => {
      if (waiting && this.received - before < (stallTimeoutMs / 1000) * MIN_RATE)
        body.destroy(new Error(`less than ${MIN_RATE} bytes a second for ${stallTimeoutMs / 1000} seconds`))
      before = this.received
    }, stallTimeoutMs)
    // Only network errors are retried; errors of the disk and the callback are not.
    const pieces = (async function* () {
      try {
        for await (const piece of body as AsyncIterable<Buffer>) {
          waiting = false
          yield piece
          waiting = true
        }
      } catch (error) {
        broken = error as Error
      } finally {
        clearInterval(watch)
      }
    })()
    for await (const piece of pieces) {
      if (this.#total !== null && this.received + piece.length > this.#total)
        throw this.#refused(`the server sent more than the expected ${this.#total} bytes`)
      await writeAll(this.#file, piece, this.received)
      this.#hash.update(piece)
      this.received += piece.length
      onProgress?.({ receivedBytes: this.received, totalBytes: this.#total })
    }
    if (signal?.aborted) throw new AbortError(signal.reason)
    if (broken !== null) return { reason: this.#refused((broken as Error).message, broken) }
    if (this.#total === null || this.#isWhole()) return null
    return { reason: this.#refused(`it ended after ${this.received} of ${this.#total} bytes`) }
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten
  }
}
