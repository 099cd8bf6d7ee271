// Draws what a terminal showed as an SVG: text, colors, underlines, and lines that were redrawn as they were at the end.
//   script -qc 'npx posttrain ...' /dev/null | node scripts/dev/pictures/terminal.mjs TITLE > docs/pictures/NAME.svg
import { text } from 'node:stream/consumers'

const ESCAPE = '\u001b'
const LINE = 19
const CHARACTER = 7.83
const MARGIN = 16
const PALETTE = {
  foreground: '#d7dae0',
  background: '#1e2127',
  30: '#5c6370',
  31: '#e06c75',
  32: '#98c379',
  33: '#e5c07b',
  34: '#61afef',
  35: '#c678dd',
  36: '#56b6c2',
  37: '#d7dae0',
  90: '#7f848e',
}

/** A control sequence with its parameters and final letter, or a character. */
const TOKEN = new RegExp(`${ESCAPE}\\[([\\d;?]*)([A-Za-z])|([^${ESCAPE}])`, 'gu')

/** Applies the parameters of one SGR sequence to a style. */
function restyled(style, parameters) {
  const next = { ...style }
  for (const code of parameters === '' ? [0] : parameters.split(';').map(Number)) {
    if (code === 0) Object.assign(next, { color: null, bold: false, dim: false, underline: false })
    else if (code === 1) next.bold = true
    else if (code === 2) next.dim = true
    else if (code === 4) next.underline = true
    else if (code === 22) Object.assign(next, { bold: false, dim: false })
    else if (code === 24) next.underline = false
    else if (code === 39) next.color = null
    else if (PALETTE[code] !== undefined) next.color = PALETTE[code]
  }
  return next
}

/** Cells of each line: a character with its style. */
function linesOf(output) {
  const lines = [[]]
  let style = { color: null, bold: false, dim: false, underline: false }
  let column = 0
  for (const [, codes, final, character] of output.matchAll(TOKEN)) {
    const line = lines.at(-1)
    if (final === 'm') style = restyled(style, codes)
    else if (final === 'K') line.length = column
    else if (character === '\r') column = 0
    else if (character === '\n') {
      lines.push([])
      column = 0
    } else if (character !== undefined && character >= ' ') line[column++] = { character, style }
  }
  while (lines.length > 0 && lines.at(-1).length === 0) lines.pop()
  return lines
}

const escaped = (value) => value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')

function attributesOf({ color, bold, dim, underline }) {
  return [
    color && `fill="${color}"`,
    bold && 'font-weight="bold"',
    dim && 'opacity="0.6"',
    underline && 'text-decoration="underline"',
  ]
    .filter(Boolean)
    .join(' ')
}

function drawn(line, row) {
  const spans = []
  for (const { character, style } of line) {
    const attributes = attributesOf(style)
    if (spans.at(-1)?.attributes === attributes) spans.at(-1).characters += character
    else spans.push({ attributes, characters: character })
  }
  const body = spans.map(({ attributes, characters }) =>
    attributes === '' ? escaped(characters) : `<tspan ${attributes}>${escaped(characters)}</tspan>`,
  )
  return `<text x="${MARGIN}" y="${MARGIN + LINE * (row + 1) - 5}">${body.join('')}</text>`
}

const lines = linesOf(await text(process.stdin))
const width = Math.ceil(2 * MARGIN + CHARACTER * Math.max(...lines.map((line) => line.length)))
const height = 2 * MARGIN + LINE * lines.length
process.stdout.write(
  `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<title>${escaped(process.argv[2] ?? 'A terminal')}</title>`,
    `<rect width="100%" height="100%" rx="8" fill="${PALETTE.background}"/>`,
    `<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="13" fill="${PALETTE.foreground}" xml:space="preserve">`,
    ...lines.map(drawn),
    '</g>',
    '</svg>',
  ].join('\n')}\n`,
)
