import type { Format, SourceRow } from './format.js'
import { firstByte, itemsOf, jsonRow, objectsOf } from './json-values.js'
import { linesOf } from './lines.js'

export const jsonl: Format = {
  name: 'JSON lines',
  endings: ['.jsonl', '.ndjson'],
  holds: 'one JSON object per line; blank lines are ignored',
  async *read(path) {
    if ((await firstByte(path)) === '[') yield* itemsOf(path)
    else if (await isIndented(path)) yield* objectsOf(path)
    else yield* lineRows(path)
  },
}

/** Whether the first object of a file goes on after its first line. */
async function isIndented(path: string): Promise<boolean> {
  for await (const { line } of linesOf(path)) if (line?.trim() !== '') return line?.trim() === '{'
  return false
}

/** Reads a row from each line. */
export async function* lineRows(path: string): AsyncGenerator<SourceRow> {
  for await (const { line, number } of linesOf(path)) {
    if (line?.trim() === '') continue
    yield jsonRow(line, { source: path, line: number }, 'line')
  }
}
