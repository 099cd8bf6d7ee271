import type { PosttrainError } from '../../errors.js'
import type { Origin } from '../rows/fields.js'

/** An unchecked row of a source, or the error that replaces it. */
export interface SourceRow {
  /** In JavaScript's own values. */
  row: unknown
  /** The row as JsonData, where that is another value. */
  exact?: unknown
  origin: Origin
  failure?: PosttrainError
  /** What the file may have been meant to hold, in a sentence for the data report. */
  note?: string
}

/** Documents of a text file: `paragraph`, separated by blank lines, or `line`, one a line. */
export type Documents = 'paragraph' | 'line'

/** How to read a file. */
export interface ReadOptions {
  /** Default `paragraph`. */
  documents?: Documents | undefined
  signal?: AbortSignal | undefined
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
  read(path: string, options: ReadOptions): AsyncGenerator<SourceRow>
}
