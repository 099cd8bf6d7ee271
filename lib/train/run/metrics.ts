import { type FileHandle, open, readFile, stat } from 'node:fs/promises'
import { ioError, writeFileAtomic } from '../../files/atomic.js'

/** metrics.jsonl of a run: the events, one a line. A failure to write keeps the lines for the next attempt. */
export class Metrics {
  readonly path: string
  #file: FileHandle | null = null
  /** Bytes of whole lines in the file. */
  #size = 0
  #unwritten: string[] = []
  /** The failure that `#unwritten` waits for. */
  failure: Error | null = null

  constructor(path: string) {
    this.path = path
  }

  /** Adds a line, after those that could not be written before. */
  async append(event: object): Promise<void> {
    this.#unwritten.push(`${JSON.stringify(event)}\n`)
    try {
      this.#file ??= await this.#open()
      const bytes = Buffer.from(this.#unwritten.join(''))
      // At a place of its own: a line cut short by a full disk is written over.
      for (let done = 0; done < bytes.length; )
        done += (await this.#file.write(bytes, done, bytes.length - done, this.#size + done)).bytesWritten
      this.#size += bytes.length
      this.#unwritten = []
      this.failure = null
    } catch (error) {
      this.failure = ioError('writing', this.path, error)
    }
  }

  /** Begins a new file if it was removed; returns whether it was. */
  async restore(): Promise<boolean> {
    if (this.#file === null || (await stat(this.path).then(() => true, isThere))) return false
    await this.#file.close().catch(() => undefined)
    this.#file = null
    return true
  }

  /**
   * Drops what a resumed run writes again: step events after `step`, other events after `settled`, and the end. Adds the
   * event of the checkpoint that it resumes from, if a kill came before its line.
   */
  async rewind({ step, settled }: { step: number; settled: number }, checkpoint?: object): Promise<void> {
    const text = await readFile(this.path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return ''
      throw ioError('reading', this.path, error)
    })
    let isToldOf = settled < step
    const kept = text.split('\n').filter((line) => {
      const event = eventOf(line)
      if (event === null || event.type === 'end') return false
      if (event.type === 'checkpoint' && event.step === step) isToldOf = true
      return (event.step ?? 0) <= (event.type === 'step' ? step : settled)
    })
    if (checkpoint && !isToldOf) kept.push(JSON.stringify(checkpoint))
    if (text !== '' || kept.length > 0)
      await writeFileAtomic(this.path, kept.map((line) => `${line}\n`).join(''))
  }

  async close(): Promise<void> {
    const file = this.#file
    this.#file = null
    await file?.close().catch((error) => {
      throw ioError('closing', this.path, error)
    })
  }

  async #open(): Promise<FileHandle> {
    const file = await open(this.path, 'a').then(async (made) => {
      await made.close()
      return await open(this.path, 'r+')
    })
    try {
      this.#size = (await file.stat()).size
      return file
    } catch (error) {
      await file.close().catch(() => undefined)
      throw error
    }
  }
}

const isThere = (error: NodeJS.ErrnoException) => error.code !== 'ENOENT'

/** Null for a line that a kill left incomplete. */
function eventOf(line: string): { type: string; step?: number } | null {
  try {
    const event = JSON.parse(line)
    return typeof event === 'object' ? event : null
  } catch {
    return null
  }
}
