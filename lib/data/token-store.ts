import { createHash } from 'node:crypto'
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { IGNORE_INDEX } from './mask.js'
import type { RowTokens } from './pack.js'

/** Above this many bytes rows go to a temporary file. */
const MEMORY_BYTES = 256 * 2 ** 20

interface Place {
  /** First byte: in memory of `chunks[chunk]`, else of the file. */
  start: number
  chunk: number
  length: number
  weight: number
}

/** Encoded rows: in memory while they are few, in a file when they are many. A token is its id, negated - 1 where it is not a label. */
export class TokenStore {
  readonly #chunks: Int32Array[] = []
  readonly #places: Place[] = []
  readonly #hash = createHash('sha256')
  readonly #memoryBytes: number
  #bytes = 0
  #file: FileHandle | null = null
  #directory: string | null = null
  #fileBytes = 0
  #tokens = 0

  constructor(options: { memoryBytes?: number } = {}) {
    this.#memoryBytes = options.memoryBytes ?? MEMORY_BYTES
  }

  get length(): number {
    return this.#places.length
  }

  get tokens(): number {
    return this.#tokens
  }

  /** Hash of all ids, masks and weights so far. */
  get hash(): string {
    return this.#hash.copy().digest('hex')
  }

  tokensOf(index: number): number {
    return this.#places[index]!.length
  }

  weightOf(index: number): number {
    return this.#places[index]!.weight
  }

  async append(row: RowTokens): Promise<void> {
    const coded = Int32Array.from(row.inputIds, (id, t) => (row.labels[t] === IGNORE_INDEX ? -id - 1 : id))
    this.#hash.update(`${coded.length}:${row.weight};`).update(new Uint8Array(coded.buffer))
    this.#tokens += coded.length
    if (this.#bytes + coded.byteLength <= this.#memoryBytes) {
      this.#places.push({ start: 0, chunk: this.#chunks.length, length: coded.length, weight: row.weight })
      this.#chunks.push(coded)
      this.#bytes += coded.byteLength
      return
    }
    if (this.#file === null) {
      this.#directory = await mkdtemp(join(tmpdir(), 'posttrain-'))
      this.#file = await open(join(this.#directory, 'tokens'), 'wx+')
    }
    await this.#file.write(new Uint8Array(coded.buffer), 0, coded.byteLength, this.#fileBytes)
    this.#places.push({ start: this.#fileBytes, chunk: -1, length: coded.length, weight: row.weight })
    this.#fileBytes += coded.byteLength
  }

  async read(index: number): Promise<RowTokens> {
    const place = this.#places[index]!
    let coded: Int32Array
    if (place.chunk >= 0) {
      coded = this.#chunks[place.chunk]!
    } else {
      const bytes = new Uint8Array(place.length * 4)
      await this.#file!.read(bytes, 0, bytes.length, place.start)
      coded = new Int32Array(bytes.buffer)
    }
    return {
      inputIds: coded.map((code) => (code < 0 ? -code - 1 : code)),
      labels: coded.map((code) => (code < 0 ? IGNORE_INDEX : code)),
      weight: place.weight,
    }
  }

  /** Closes and removes the temporary file. */
  async close(): Promise<void> {
    await this.#file?.close()
    this.#file = null
    if (this.#directory !== null) await rm(this.#directory, { recursive: true, force: true })
    this.#directory = null
  }
}
