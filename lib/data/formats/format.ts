import type { PosttrainError } from '../../errors.js'
import type { Origin } from '../rows/fields.js'

/** A row as it stands in a source, or why there is none in its place. */
export interface SourceRow {
  row: unknown
  origin: Origin
  failure?: PosttrainError
}

/** A kind of data file. A new one is a file beside this one and a line in index.ts. */
export interface Format {
  name: string
  /** Ends of file names, in lower case; the first is the one that texts name. */
  endings: readonly [string, ...string[]]
  /** What such a file holds, in a line for people. */
  holds: string
  /**
   * The rows in order; memory does not grow with the file. A row that cannot be read gives a `failure`, and the ones
   * after it are read still; what makes the whole file unreadable is thrown as ERR_DATA.
   */
  read(path: string): AsyncGenerator<SourceRow>
}
