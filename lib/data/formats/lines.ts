import { chunksOf, Pieces, tooLong } from './chunks.js'

/**
 * Yields the lines of a file, numbered from 1, without line breaks; `null` where a line is not UTF-8. (Node's readline
 * loses the errors of its stream, and puts U+FFFD where bytes are not UTF-8.)
 */
export async function* linesOf(path: string): AsyncGenerator<{ line: string | null; number: number }> {
  const pieces = new Pieces()
  let number = 0
  const take = () => {
    const line = pieces.take()
    return { line: line?.endsWith('\r') === true ? line.slice(0, -1) : line, number: ++number }
  }
  for await (const chunk of chunksOf(path)) {
    let from = 0
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      pieces.add(chunk.subarray(from, at))
      yield take()
      from = at + 1
    }
    pieces.add(chunk.subarray(from))
    if (pieces.tooLong) throw tooLong(path, number + 1, 'line')
  }
  if (!pieces.empty) yield take()
}
