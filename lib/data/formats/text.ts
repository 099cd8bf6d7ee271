import { MAX_ROW_BYTES, notUtf8, tooLong } from './chunks.js'
import type { Format, SourceRow } from './format.js'
import { linesOf } from './lines.js'

/** Lines of a file without blank ones from which on each is likely a document. */
const LIKELY_LINES = 3

export const text: Format = {
  name: 'text',
  endings: ['.txt'],
  holds: 'plain text; blank lines separate documents, or each line is one (documents: line)',
  async *read(path, { documents = 'paragraph' }) {
    let lines: string[] = []
    let [first, size] = [1, 0]
    // Between documents.
    let [over, only] = [false, true]
    const row = (note?: string): SourceRow => {
      const text = lines.join('\n')
      lines = []
      size = 0
      return { row: { text }, origin: { source: path, line: first }, ...(note !== undefined && { note }) }
    }
    for await (const { line, number } of linesOf(path)) {
      if (line === null) throw notUtf8(path, number)
      if (line.trim() === '') {
        over = true
        continue
      }
      if (lines.length > 0 && (over || documents === 'line')) {
        yield row()
        only = false
      }
      over = false
      if (lines.length === 0) first = number
      lines.push(line)
      size += line.length
      if (size > MAX_ROW_BYTES) throw tooLong(path, first, 'document')
    }
    if (lines.length === 0) return
    const likely = only && lines.length >= LIKELY_LINES
    yield row(likely ? `${path} is one document of ${lines.length} lines: ${ADVICE}` : undefined)
  },
}

const ADVICE = "where each line is a document, set documents to 'line'"
