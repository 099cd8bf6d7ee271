import { createHash } from 'node:crypto'
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { IGNORE_INDEX } from '../../addon/training.js'
import { PosttrainError } from '../../errors.js'
import { type Digest, digest, NumberList } from './digests.js'
import type { RowTokens } from './mask.js'

/** Bytes above which rows are stored in a temporary file. */
const MEMORY_BYTES = 256 * 2 ** 20
/** Tokens of a block of memory, and of one write to the file. */
const BLOCK = 2 ** 18

/**
 * Store of encoded rows: in memory while they are few, in a temporary file when they are many. A token is stored as its
 * id, or as -id - 1 where it is not a label.
 */
export class TokenStore {
  readonly #memoryBytes: number
  readonly #directory: string
  readonly #hash = createHash('sha256')
  /** Place of each row's first token in the store, and the end of the last row. */
  readonly #starts = new NumberList()
  readonly #weights = new NumberList()
  /** Hashes of the rows' ids, to find equal ones. */
  readonly #low = new NumberList()
  readonly #high = new NumberList()
  /** Full blocks in memory, oldest first; later ones are in the file. */
  readonly #blocks: Int32Array[] = []
  #open = new Int32Array(BLOCK)
  #filled = 0
  #file: FileHandle | null = null
  #folder: string | null = null
  #fileBlocks = 0
  #tokens = 0

  /** `directory`: folder of the temporary file; default: the system's. */
  constructor(options: { memoryBytes?: number; directory?: string } = {}) {
    this.#memoryBytes = options.memoryBytes ?? MEMORY_BYTES
    this.#directory = options.directory ?? tmpdir()
    this.#starts.push(0)
  }

  /** Number of rows. */
  get length(): number {
    return this.#weights.length
  }

  get tokens(): number {
    return this.#tokens
  }

  /** Whether rows are in a file. */
  get spilled(): boolean {
    return this.#file !== null
  }

  /** Hash of all ids, masks and weights so far. */
  get hash(): string {
    return this.#hash.copy().digest('hex')
  }

  tokensOf(index: number): number {
    return this.#starts.at(index + 1) - this.#starts.at(index)
  }

  weightOf(index: number): number {
    return this.#weights.at(index)
  }

  /** Hash of a row's ids: equal rows have equal ones. */
  digestOf(index: number): Digest {
    return [this.#low.at(index), this.#high.at(index)]
  }

  async append(row: RowTokens): Promise<void> {
    const { inputIds, labels } = row
    const coded = inputIds.map((id, t) => (labels[t] === IGNORE_INDEX ? -id - 1 : id))
    this.#hash.update(`${coded.length}:${row.weight};`).update(bytesOf(coded))
    const [low, high] = digest(bytesOf(inputIds))
    this.#low.push(low)
    this.#high.push(high)
    for (let at = 0; at < coded.length; ) {
      const count = Math.min(coded.length - at, BLOCK - this.#filled)
      this.#open.set(coded.subarray(at, at + count), this.#filled)
      this.#filled += count
      at += count
      if (this.#filled === BLOCK) await this.#seal()
    }
    this.#tokens += coded.length
    this.#starts.push(this.#tokens)
    this.#weights.push(row.weight)
  }

  async read(index: number): Promise<RowTokens> {
    const start = this.#starts.at(index)
    const coded = new Int32Array(this.tokensOf(index))
    for (let at = 0; at < coded.length; ) {
      const block = Math.floor((start + at) / BLOCK)
      const from = (start + at) % BLOCK
      const count = Math.min(coded.length - at, BLOCK - from)
      await this.#copy(block, from, coded.subarray(at, at + count))
      at += count
    }
    return {
      inputIds: coded.map((code) => (code < 0 ? -code - 1 : code)),
      labels: coded.map((code) => (code < 0 ? IGNORE_INDEX : code)),
      weight: this.#weights.at(index),
    }
  }

  /** Closes and removes the temporary file. */
  async close(): Promise<void> {
    await this.#file?.close()
    this.#file = null
    if (this.#folder !== null) await rm(this.#folder, { recursive: true, force: true })
    this.#folder = null
  }

  async #seal(): Promise<void> {
    if (this.#file === null && (this.#blocks.length + 1) * BLOCK * 4 <= this.#memoryBytes) {
      this.#blocks.push(this.#open)
      this.#open = new Int32Array(BLOCK)
    } else {
      try {
        if (this.#file === null) {
          this.#folder = await mkdtemp(join(this.#directory, 'posttrain-'))
          this.#file = await open(join(this.#folder, 'tokens'), 'wx+')
          // An open file needs no name where the system allows that: a killed process leaves nothing.
          await rm(this.#folder, { recursive: true, force: true }).catch(() => undefined)
        }
        const bytes = bytesOf(this.#open)
        for (let at = 0; at < bytes.length; ) {
          at += (await this.#file.write(bytes, at, undefined, this.#fileBlocks * BLOCK * 4 + at)).bytesWritten
        }
      } catch (cause) {
        throw new PosttrainError(
          'ERR_IO',
          `the encoded rows cannot be kept in ${this.#directory}: ${(cause as Error).message}; make room there, or set TMPDIR`,
          { cause },
        )
      }
      this.#fileBlocks++
    }
    this.#filled = 0
  }

  async #copy(block: number, from: number, into: Int32Array): Promise<void> {
    if (block < this.#blocks.length) {
      into.set(this.#blocks[block]!.subarray(from, from + into.length))
      return
    }
    const inFile = block - this.#blocks.length
    if (inFile === this.#fileBlocks) {
      into.set(this.#open.subarray(from, from + into.length))
      return
    }
    if (this.#file === null) throw new PosttrainError('ERR_DISPOSED', 'the encoded rows were closed')
    const bytes = bytesOf(into)
    for (let at = 0; at < bytes.length; ) {
      const position = (inFile * BLOCK + from) * 4 + at
      const { bytesRead } = await this.#file.read(bytes, at, bytes.length - at, position)
      if (bytesRead === 0)
        throw new PosttrainError('ERR_IO', `the file of encoded rows in ${this.#folder} was cut short`)
      at += bytesRead
    }
  }
}

function bytesOf(values: Int32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}
