import type { PackedBatch } from '../../addon/training.js'
import { IGNORE_INDEX } from '../../addon/training.js'
import { is, needArgument, shown } from '../../arguments.js'
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
  needArgument('the batch', 'it', batch, is.object)
  needArgument('the batch', 'inputIds', batch.inputIds, is.int32)
  if (batch.labels !== undefined) needArgument('the batch', 'labels', batch.labels, is.int32)
  if (!isPadded(batch)) {
    needArgument('the batch', 'offsets', batch.offsets, is.int32)
    if (batch.weights !== undefined) needArgument('the batch', 'weights', batch.weights, is.reals)
    return batch
  }
  const { inputIds, attentionMask, labels, rows, columns } = batch
  needArgument('the batch', 'attentionMask', attentionMask, is.int32)
  needArgument('the batch', 'rows', rows, is.count)
  needArgument('the batch', 'columns', columns, is.count)
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

/** A row of token ids for `toBatch`. */
export interface BatchRow {
  inputIds: ArrayLike<number>
  /** Token to predict at each position, -100 where there is none; not shifted. Either all rows have them or none. */
  labels?: ArrayLike<number>
  /** Weight of all labels of the row in the loss; default 1. */
  weight?: number
}

/**
 * Makes a batch from rows of token ids, for `backward`, `evaluate`, `logits` and `logProbs` in a loop of your own. Rows
 * may have any lengths: they are packed, without padding.
 *
 * ```ts
 * const batch = toBatch([{ inputIds: [5, 8, 13, 2], labels: [-100, -100, 13, 2] }, { inputIds: [5, 9], labels: [-100, 9] }])
 * const { loss } = await model.backward(batch, { kind: 'crossEntropy' })
 * ```
 *
 * @throws PosttrainError ERR_INVALID_ARGUMENT naming the row and the position: an empty row, an id that is not a whole
 * number, labels of another length.
 */
export function toBatch(rows: readonly (BatchRow | readonly number[] | Int32Array)[]): PackedBatch {
  if (!Array.isArray(rows) || rows.length === 0)
    throw new PosttrainError('ERR_INVALID_ARGUMENT', 'toBatch needs a list of at least one row')
  const checked = Array.from(rows, (row: unknown, i) => checkedRow(row, `row ${i}`))
  const labeled = checked.filter(({ labels }) => labels !== undefined).length
  if (labeled !== 0 && labeled !== rows.length)
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `toBatch: ${labeled} of ${rows.length} rows have labels: give them to all rows or to none`,
    )
  const { labels: packed, ...batch } = packRows(
    checked.map((row) => ({ ...row, labels: row.labels ?? row.inputIds })),
  )
  return labeled === 0 ? batch : { ...batch, ...(packed && { labels: packed }) }
}

/** Checks a row of `toBatch`; `labels` may be IGNORE_INDEX, ids may not. */
function checkedRow(
  row: unknown,
  where: string,
): { inputIds: Int32Array; labels: Int32Array | undefined; weight: number } {
  const refuse = (sentence: string) =>
    new PosttrainError('ERR_INVALID_ARGUMENT', `toBatch: ${where} ${sentence}`)
  const ids = (value: unknown, name: 'inputIds' | 'labels'): Int32Array => {
    if (!Array.isArray(value) && (!ArrayBuffer.isView(value) || value instanceof DataView))
      throw refuse(`has no ${name}: expected a list of token ids`)
    const list: unknown[] = Array.from(value as ArrayLike<unknown>)
    const isId = (id: unknown) => Number.isInteger(id) && Number(id) >= 0 && Number(id) < 2 ** 31
    const bad = list.findIndex((id) => !isId(id) && !(name === 'labels' && id === IGNORE_INDEX))
    if (bad >= 0) throw refuse(`has ${shown(list[bad])} at ${name}[${bad}], which is no token id`)
    return Int32Array.from(list as number[])
  }
  if (row === null || typeof row !== 'object')
    throw refuse('must be { inputIds, labels } or a list of token ids')
  const fields = (
    Array.isArray(row) || ArrayBuffer.isView(row) ? { inputIds: row } : row
  ) as Partial<BatchRow>
  const { weight = 1 } = fields
  const inputIds = ids(fields.inputIds, 'inputIds')
  if (inputIds.length === 0) throw refuse('is empty')
  const labels = fields.labels === undefined ? undefined : ids(fields.labels, 'labels')
  if (labels !== undefined && labels.length !== inputIds.length)
    throw refuse(`has ${labels.length} labels for ${inputIds.length} tokens`)
  if (typeof weight !== 'number' || !Number.isFinite(weight) || weight < 0)
    throw refuse(`has the weight ${shown(weight)}: expected a number of at least 0`)
  return { inputIds, labels, weight }
}
