import type { Format, SourceRow } from './format.js'
import { firstByte, itemsOf, jsonRow } from './json-values.js'
import { linesOf } from './lines.js'

export const jsonl: Format = {
  name: 'JSON lines',
  endings: ['.jsonl', '.ndjson'],
  holds: 'one JSON object per line; blank lines are ignored',
  async *read(path) {
    yield* (await firstByte(path)) === '[' ? itemsOf(path) : lineRows(path)
  },
}

/** Reads a row from each line. */
export async function* lineRows(path: string): AsyncGenerator<SourceRow> {
  for await (const { line, number } of linesOf(path)) {
    if (line?.trim() === '') continue
    yield jsonRow(line, { source: path, line: number }, 'line')
  }
}
