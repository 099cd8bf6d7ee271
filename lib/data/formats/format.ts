import type { PosttrainError } from '../../errors.js'
import type { Origin } from '../rows/fields.js'

/** An unchecked row of a source, or the error that replaces it. */
export interface SourceRow {
  row: unknown
  origin: Origin
  failure?: PosttrainError
}

/** A kind of data file. To add one, add a file to this folder and a line to index.ts. */
export interface Format {
  name: string
  /** File name endings, in lower case; messages name the first. */
  endings: readonly [string, ...string[]]
  /** Content of such a file, in one line for the help. */
  holds: string
  /**
   * Reads the rows in order; memory does not grow with the file. A row that cannot be read yields a `failure`, and
   * reading continues after it; an unreadable file throws ERR_DATA.
   */
  read(path: string): AsyncGenerator<SourceRow>
}
