import type { Format } from './format.js'
import { linesOf, notUtf8 } from './lines.js'

export const text: Format = {
  name: 'text',
  endings: ['.txt'],
  holds: 'plain text; blank lines separate documents',
  async *read(path) {
    let document: string[] = []
    let first = 1
    const row = () => ({ row: { text: document.join('\n') }, origin: { source: path, line: first } })
    for await (const { line, number } of linesOf(path)) {
      if (line === null) throw notUtf8(path, number)
      if (line.trim() !== '') {
        if (document.length === 0) first = number
        document.push(line)
      } else if (document.length > 0) {
        yield row()
        document = []
      }
    }
    if (document.length > 0) yield row()
  },
}
