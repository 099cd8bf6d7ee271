import { notUtf8 } from './chunks.js'
import type { Format, SourceRow } from './format.js'
import { linesOf } from './lines.js'

/** Lines of a file without blank ones from which on each is likely a document. */
const LIKELY_LINES = 3

export const text: Format = {
  name: 'text',
  endings: ['.txt'],
  holds: 'plain text; blank lines separate documents, or each line is one (documents: line)',
  async *read(path, { documents = 'paragraph' }) {
    const lines: string[] = []
    let [first, count, blank] = [1, 0, false]
    const row = (note?: string): SourceRow => {
      const text = lines.splice(0).join('\n')
      return { row: { text }, origin: { source: path, line: first }, ...(note !== undefined && { note }) }
    }
    for await (const { line, number } of linesOf(path)) {
      if (line === null) throw notUtf8(path, number)
      if (line.trim() === '') {
        blank = true
        if (lines.length > 0) yield row()
        continue
      }
      if (lines.length === 0) first = number
      lines.push(line)
      count++
      if (documents === 'line') yield row()
    }
    if (lines.length === 0) return
    const likely = !blank && count >= LIKELY_LINES
    yield row(likely ? `${path} is one document of ${count} lines: ${ADVICE}` : undefined)
  },
}

const ADVICE = "where each line is a document, set documents to 'line'"
