import { PosttrainError } from '../../errors.js'
import type { Format, SourceRow } from './format.js'
import { linesOf, notUtf8 } from './lines.js'

export const jsonl: Format = {
  name: 'JSON lines',
  endings: ['.jsonl', '.ndjson'],
  holds: 'one JSON object per line; blank lines are ignored',
  async *read(path) {
    for await (const { line, number } of linesOf(path)) {
      if (line?.trim() === '') continue
      const origin = { source: path, line: number }
      if (line === null) yield { row: undefined, origin, failure: notUtf8(path, number) }
      else yield rowOf(line, origin)
    }
  },
}

function rowOf(line: string, origin: SourceRow['origin']): SourceRow {
  try {
    return { row: JSON.parse(line), origin }
  } catch (cause) {
    const failure = new PosttrainError(
      'ERR_DATA',
      `${origin.source}:${origin.line}: the line is not valid JSON: ${(cause as Error).message}`,
      { cause },
    )
    return { row: undefined, origin, failure }
  }
}
