import type { DataReport } from '../encode/report.js'

/**
 * Batches in epochs. The order of epoch e depends on the seed and e alone, so training can resume in the middle of an
 * epoch without replaying it.
 */
export interface Loader<Batch> {
  readonly report: DataReport
  /** Hash of the encoded data. */
  readonly hash: string
  batchesIn(epoch: number): number
  /** Yields the batches of an epoch, from batch `from` on. */
  epoch(epoch: number, options?: { from?: number }): AsyncIterable<Batch>
}
