import { is, needArgument } from '../arguments.js'

/** Refuses rows that are neither `{ promptIds, completionIds }` nor, where `whole`, one Int32Array of a whole text. */
export function needRows(where: string, rows: unknown, whole = false): void {
  needArgument(where, 'the rows', rows, is.list)
  for (const [i, row] of (rows as unknown[]).entries()) {
    if (whole && row instanceof Int32Array) continue
    needArgument(where, `row ${i}`, row, is.object)
    const { promptIds, completionIds } = row as Record<string, unknown>
    needArgument(where, `row ${i}: promptIds`, promptIds, is.ids)
    needArgument(where, `row ${i}: completionIds`, completionIds, is.ids)
  }
}
