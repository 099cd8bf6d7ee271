import type { PackedBatch } from '../../addon/training.js'
import { IGNORE_INDEX } from '../../addon/training.js'
import { PosttrainError } from '../../errors.js'
import type { RowTokens } from '../encode/mask.js'

/** The textbook's form: every row padded to the longest. All three arrays are [rows * columns], row by row. */
export interface PaddedBatch {
  inputIds: Int32Array
  /** 1 for a token, 0 for padding, which is at the left or at the right of a row. */
  attentionMask: Int32Array
  /** Token to predict at each position, or IGNORE_INDEX; not shifted. */
  labels?: Int32Array
  rows: number
  columns: number
}

export type Batch = PackedBatch | PaddedBatch

export function isPadded(batch: Batch): batch is PaddedBatch {
  return 'attentionMask' in batch
}

/** Converts a batch to the packed form, without padding. */
export function toPacked(batch: Batch): PackedBatch {
  if (!isPadded(batch)) return batch
  const { inputIds, attentionMask, labels, rows, columns } = batch
  const size = rows * columns
  for (const [name, array] of Object.entries({ inputIds, attentionMask, labels })) {
    if (array !== undefined && array.length !== size) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `batch.${name} has ${array.length} values, not rows * columns = ${size}`,
      )
    }
  }
  const offsets = [0]
  const kept: number[] = []
  for (let row = 0; row < rows; row++) {
    const from = kept.length
    let ended = false
    for (let at = row * columns; at < (row + 1) * columns; at++) {
      if (attentionMask[at] === 0) {
        ended = kept.length > from
        if (labels !== undefined && labels[at] !== IGNORE_INDEX) {
          throw new PosttrainError(
            'ERR_INVALID_ARGUMENT',
            `batch.labels has a label on padding, in row ${row}`,
          )
        }
        continue
      }
      if (ended)
        throw new PosttrainError(
          'ERR_INVALID_ARGUMENT',
          `batch.attentionMask has a hole in row ${row}: padding must be on one side`,
        )
      kept.push(at)
    }
    if (kept.length > from) offsets.push(kept.length)
  }
  if (kept.length === 0)
    throw new PosttrainError('ERR_INVALID_ARGUMENT', 'batch has no token outside the padding')
  const pick = (array: Int32Array) => Int32Array.from(kept, (at) => array[at]!)
  return {
    inputIds: pick(inputIds),
    offsets: Int32Array.from(offsets),
    ...(labels === undefined ? {} : { labels: pick(labels) }),
  }
}

/** Packs rows, each as a document. `weights` is present only where a row's weight is not 1. */
export function packRows(rows: readonly RowTokens[]): PackedBatch {
  const total = rows.reduce((sum, { inputIds }) => sum + inputIds.length, 0)
  const inputIds = new Int32Array(total)
  const labels = new Int32Array(total)
  const offsets = new Int32Array(rows.length + 1)
  const weighted = rows.some(({ weight }) => weight !== 1)
  const weights = weighted ? new Float32Array(total) : undefined
  let at = 0
  for (const [i, row] of rows.entries()) {
    inputIds.set(row.inputIds, at)
    labels.set(row.labels, at)
    weights?.fill(row.weight, at, at + row.inputIds.length)
    at += row.inputIds.length
    offsets[i + 1] = at
  }
  return { inputIds, offsets, labels, ...(weights === undefined ? {} : { weights }) }
}

/** Pads rows at the right to the longest. Refuses row weights, which this form cannot hold. */
export function padRows(rows: readonly RowTokens[], padId: number): PaddedBatch {
  if (rows.some(({ weight }) => weight !== 1)) {
    throw new PosttrainError('ERR_INVALID_ARGUMENT', 'rows with weights need the packed form of a batch')
  }
  const columns = Math.max(...rows.map(({ inputIds }) => inputIds.length))
  const inputIds = new Int32Array(rows.length * columns).fill(padId)
  const attentionMask = new Int32Array(rows.length * columns)
  const labels = new Int32Array(rows.length * columns).fill(IGNORE_INDEX)
  for (const [i, row] of rows.entries()) {
    inputIds.set(row.inputIds, i * columns)
    labels.set(row.labels, i * columns)
    attentionMask.fill(1, i * columns, i * columns + row.inputIds.length)
  }
  return { inputIds, attentionMask, labels, rows: rows.length, columns }
}
