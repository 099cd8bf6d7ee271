/** The part of a stream that progress uses, such as process.stderr. */
export interface Terminal {
  isTTY?: boolean
  columns?: number
  hasColors?(): boolean
  write(text: string): unknown
}

/** stderr as progress uses it: redrawn lines only on a terminal that can erase one. */
export function screen(): Terminal {
  if (process.env.TERM !== 'dumb') return process.stderr
  return { write: (text) => process.stderr.write(text) }
}

/** Lines of a text, broken at spaces where they are wider than the terminal; as they are elsewhere. */
export function fitted(out: Terminal, text: string): string {
  if (!out.isTTY) return text
  const width = Math.max(20, out.columns || 80) - 1
  return text
    .split('\n')
    .map((line) => wrap(line, width, '  '))
    .join('\n')
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

const COLORS = { green: 32, yellow: 33, cyan: 36, dim: 2 } as const

/** Colors a text where the stream shows colors: a terminal, and no NO_COLOR. */
export function paint(out: Terminal, color: keyof typeof COLORS | undefined, text: string): string {
  if (color === undefined || out.hasColors?.() !== true) return text
  return `\u001b[${COLORS[color]}m${text}\u001b[0m`
}

/** True for a terminal of UTF-8. */
const isUnicode = () =>
  /utf-?8/i.test(process.env.LC_ALL || process.env.LC_CTYPE || process.env.LANG || '') &&
  !/^(dumb|linux)$/.test(process.env.TERM ?? '')

/** A bar of `width` columns, filled to `fraction`. */
export function bar(out: Terminal, fraction: number, width: number): string {
  const full = Math.round(width * Math.min(1, Math.max(0, fraction)))
  if (isUnicode())
    return `${paint(out, 'cyan', '━'.repeat(full))}${paint(out, 'dim', '─'.repeat(width - full))}`
  return `[${'#'.repeat(Math.max(0, full - 1))}${'.'.repeat(Math.max(0, width - Math.max(1, full) - 1))}]`
}
