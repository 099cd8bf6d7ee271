/** The part of a stream that progress uses, such as process.stderr. */
export interface Terminal {
  isTTY?: boolean
  columns?: number
  hasColors?(): boolean
  write(text: string): unknown
}

/** Breaks a text into lines of at most `width` columns, at spaces where there are some. */
export function wrap(text: string, width: number, indent = ''): string {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    const next = line === '' ? word : `${line} ${word}`
    if (columnsOf(next) <= width || line === '') line = next
    else {
      lines.push(line)
      line = `${indent}${word}`
    }
  }
  lines.push(line)
  return lines.join('\n')
}

const WIDE =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\u3000-\u303f\uff01-\uff60]|\p{Extended_Pictographic}/u
const SEGMENTS = new Intl.Segmenter()

/** Columns of a text in a terminal: two for each East Asian or emoji character. */
export function columnsOf(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length
  let columns = 0
  for (const { segment } of SEGMENTS.segment(text)) columns += WIDE.test(segment) ? 2 : 1
  return columns
}
