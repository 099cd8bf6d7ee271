/** Most columns that are counted: tables have few, and a file of other things may have one for each row. */
const MOST = 100

/** Numbers of rows by the columns that they have. */
export class ColumnCounts {
  readonly #counts = new Map<string, number>()

  add(columns: readonly string[]): void {
    for (const column of columns) {
      const count = this.#counts.get(column)
      if (count !== undefined || this.#counts.size < MOST) this.#counts.set(column, (count ?? 0) + 1)
    }
  }

  counts(): Record<string, number> {
    return Object.fromEntries(this.#counts)
  }
}
