import { type FileHandle, open, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { readRows } from '../data/sources.js'
import { PosttrainError } from '../errors.js'
import { ioError, makeFolder } from '../files/atomic.js'
import { takeLock } from '../files/lock.js'
import type { DistilledRow } from './events.js'
import type { DistillMode } from './options.js'

interface RowFileOptions {
  mode: DistillMode
  resume: boolean
  overwrite: boolean
}

/** Output file of a run, locked against other processes; appends whole lines and syncs each. */
export class RowFile {
  readonly path: string
  readonly #unlock: () => Promise<void>
  #handle: FileHandle | null = null
  #last: Promise<void> = Promise.resolve()

  private constructor(path: string, unlock: () => Promise<void>) {
    this.path = path
    this.#unlock = unlock
  }

  /** Takes the lock. Throws ERR_INVALID_ARGUMENT for an existing file without `resume` or `overwrite`. */
  static async lock(path: string, { resume, overwrite }: RowFileOptions): Promise<RowFile> {
    const found = await stat(path).catch(() => null)
    if (found && !found.isFile()) throw new PosttrainError('ERR_INVALID_ARGUMENT', `${path} is not a file`)
    if (found && found.size > 0 && !resume && !overwrite) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `${path} already exists: set option resume to continue it, option overwrite to replace it, or choose another output`,
      )
    }
    await makeFolder(dirname(resolve(path))).catch((cause) => {
      throw ioError('creating the folder of', path, cause)
    })
    const lock = `${path}.lock`
    const { release } = await takeLock(
      lock,
      ({ name }) =>
        new PosttrainError(
          'ERR_INVALID_ARGUMENT',
          `${path} is being written by ${name}: wait for it, or use another output (if no such process exists, remove ${lock})`,
        ),
    ).catch((cause) => {
      throw ioError('locking', path, cause)
    })
    return new RowFile(path, release)
  }

  /** Opens the file for appending and returns its rows; an incomplete last line is removed first. */
  async open({ mode, resume }: RowFileOptions): Promise<{ rows: DistilledRow[]; repaired: boolean }> {
    const rows: DistilledRow[] = []
    let repaired = false
    try {
      this.#handle = await open(this.path, resume ? 'a+' : 'w')
      if (resume) repaired = await repairEnd(this.#handle)
    } catch (cause) {
      throw ioError('opening', this.path, cause)
    }
    if (!resume) return { rows, repaired }
    for await (const { row, origin, failure } of readRows(this.path)) {
      if (failure) throw failure
      const id = (row as Partial<DistilledRow> | null)?.seedId
      if (typeof id !== 'string' || !id.startsWith(`${mode}-`)) {
        throw new PosttrainError(
          'ERR_DATA',
          `${origin.source}:${origin.line}: seedId must begin with ${mode}-: the file was not written by distill in mode ${mode}, use another output`,
        )
      }
      rows.push(row as DistilledRow)
    }
    return { rows, repaired }
  }

  /** Resolves when the row is synced. After a failure every call rejects, so that no line follows an incomplete one. */
  append(row: DistilledRow): Promise<void> {
    const written = this.#last.then(async () => {
      try {
        await this.#handle!.appendFile(`${JSON.stringify(row)}\n`)
        await this.#handle!.datasync()
      } catch (cause) {
        throw ioError('writing', this.path, cause)
      }
    })
    this.#last = written
    written.catch(() => undefined)
    return written
  }

  async close(): Promise<void> {
    await this.#last.catch(() => undefined)
    await this.#handle?.close()
    await this.#unlock()
  }
}

/** Truncates after the last line end: the rest is a line cut short by a crash. */
async function repairEnd(handle: FileHandle): Promise<boolean> {
  const { size } = await handle.stat()
  const chunk = Buffer.alloc(64 * 1024)
  let end = size
  while (end > 0) {
    const from = Math.max(0, end - chunk.length)
    const { bytesRead } = await handle.read(chunk, 0, end - from, from)
    const at = chunk.subarray(0, bytesRead).lastIndexOf(10)
    end = at < 0 ? from : from + at + 1
    if (at >= 0) break
  }
  if (end === size) return false
  await handle.truncate(end)
  await handle.sync()
  return true
}
