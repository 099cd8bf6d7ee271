import type { DataReport } from '../encode/report.js'

/**
 * Batches in epochs. The order of epoch e depends on the seed and e alone, so a training can go on in the middle of one
 * without replaying anything.
 */
export interface Loader<Batch> {
  readonly report: DataReport
  /** Changes with the data. */
  readonly hash: string
  batchesIn(epoch: number): number
  /** The batches of an epoch, from batch `from` on. */
  epoch(epoch: number, options?: { from?: number }): AsyncIterable<Batch>
}
