import { parseJson } from '../rows/exact-json.js'
import type { Format } from './format.js'
import { firstByte, itemsOf, objectsOf } from './json-values.js'
import { lineRows } from './jsonl.js'
import { linesOf } from './lines.js'

export const json: Format = {
  name: 'JSON',
  endings: ['.json'],
  holds: 'one list of objects, or objects one after another',
  async *read(path) {
    if ((await firstByte(path)) === '[') yield* itemsOf(path)
    else if (await isLines(path)) yield* lineRows(path)
    else yield* objectsOf(path)
  },
}

/** Whether the first line of a file is a JSON value by itself. */
async function isLines(path: string): Promise<boolean> {
  for await (const { line } of linesOf(path)) {
    if (line?.trim() === '') continue
    try {
      parseJson(line ?? '')
      return true
    } catch {
      return false
    }
  }
  return true
}
