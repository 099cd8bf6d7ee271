import { Command, Option } from 'commander'
import { IGNORE_INDEX } from '../addon/training.js'
import { type Dataset, loadDataset } from '../data/dataset.js'
import type { DataReport } from '../data/encode/report.js'
import type { Documents } from '../data/formats/format.js'
import { ENDINGS_TEXT, FORMATS } from '../data/formats/index.js'
import { chooseTemplate } from '../data/text/templates.js'
import { Tokenizer } from '../data/text/tokenizer.js'
import { PosttrainError } from '../errors.js'
import { counted } from './counts.js'
import { UsageError } from './usage.js'

/** State of a token: trained (a label), masked (context), or padding beside longer rows. */
export type TokenState = 'trained' | 'masked' | 'padding'

export interface InspectedRow {
  /** `file:line`. */
  source: string
  weight: number
  tokens: { id: number; text: string; state: TokenState }[]
  counts: Record<TokenState, number>
}

export interface InspectOptions {
  model: string
  template?: string
  rows: number
  maxLength: number
  trainOn: 'assistant' | 'lastAssistant' | 'all'
  overflow: 'truncate' | 'drop' | 'error'
  onBadRow: 'error' | 'skip'
  documents?: Documents
}

/** The first rows of a file as training sees them, padded to the longest, and the report on all rows. */
export async function inspectData(
  data: string,
  options: InspectOptions,
): Promise<{ template: string; rows: InspectedRow[]; report: DataReport }> {
  const tokenizer = await Tokenizer.load(options.model)
  const { template, strings } = await chooseTemplate(options.template, tokenizer)
  const { maxLength, trainOn, overflow, onBadRow, documents } = options
  const encoding = {
    tokenizer,
    template,
    strings,
    rendered: false,
    maxLength,
    trainOn,
    overflow,
    onBadRow,
    documents,
  }
  const { train } = await loadDataset(data, { ...encoding, seed: 0, needsStop: false })
  try {
    const rows = await firstRows(train, tokenizer, options.rows)
    return { template: template.name, rows, report: train.report }
  } finally {
    await train.store.close()
  }
}

async function firstRows(dataset: Dataset, tokenizer: Tokenizer, count: number): Promise<InspectedRow[]> {
  const shown = Math.min(count, dataset.store.length)
  const padId = tokenizer.padId ?? tokenizer.eosId ?? 0
  let columns = 0
  for (let index = 0; index < shown; index++) columns = Math.max(columns, dataset.store.tokensOf(index))
  const rows: InspectedRow[] = []
  for (let index = 0; index < shown; index++) {
    const { inputIds, labels, weight } = await dataset.store.read(index)
    const counts: Record<TokenState, number> = { trained: 0, masked: 0, padding: 0 }
    const tokens: InspectedRow['tokens'] = []
    for (let t = 0; t < columns; t++) {
      const state = t >= inputIds.length ? 'padding' : labels[t] === IGNORE_INDEX ? 'masked' : 'trained'
      const id = inputIds[t] ?? padId
      counts[state]++
      tokens.push({ id, text: tokenizer.decode([id], { skipSpecialTokens: false }), state })
    }
    rows.push({ source: dataset.originOf(index), weight, tokens, counts })
  }
  return rows
}

const PAINT: Record<TokenState, [open: string, close: string]> = {
  trained: ['\x1b[32m', '\x1b[39m'],
  masked: ['\x1b[90m', '\x1b[39m'],
  padding: ['\x1b[2m', '\x1b[22m'],
}
/** Without colors. */
const BRACKETS: Record<TokenState, [open: string, close: string]> = {
  trained: ['⟦', '⟧'],
  masked: ['', ''],
  padding: ['⟨', '⟩'],
}

/** A row for a terminal: spans of one state share a color, every second token is underlined. */
export function drawRow(row: InspectedRow, tokenizer: Tokenizer, color: boolean): string {
  const { trained, masked, padding } = row.counts
  const weight = row.weight === 1 ? '' : `, weight ${row.weight}`
  let out = `${row.source}  ${trained} trained, ${masked} masked, ${padding} padding${weight}\n`
  const decoder = tokenizer.streamDecoder({ skipSpecialTokens: false })
  let state: TokenState | null = null
  const enter = (next: TokenState | null) => {
    if (state === next) return
    const marks = color ? PAINT : BRACKETS
    if (state !== null) out += marks[state][1]
    if (next !== null) out += marks[next][0]
    state = next
  }
  for (const [t, token] of row.tokens.entries()) {
    enter(token.state)
    if (token.state === 'padding') {
      out += `padding × ${padding}`
      break
    }
    // A token that ends inside a character prints nothing; the token that completes it prints it.
    const text = decoder.push(token.id).replaceAll('\n', '⏎\n')
    out += color && t % 2 === 1 ? `\x1b[4m${text}\x1b[24m` : text
  }
  enter(null)
  return `${out}\n`
}

/** Lines of the report; counts of zero are left out. */
export function drawReport(report: DataReport): string {
  const { dropped, length, duplicates } = report
  const lines = [
    `${counted(report.read, 'row')} read, ${report.rows} to train, ${report.truncated} truncated`,
    `${report.tokens} tokens, ${report.trainTokens} of them trained`,
    `tokens per row: min ${length.min}, median ${length.median}, p90 ${length.p90}, p99 ${length.p99}, max ${length.max}`,
  ]
  const found: [number, string][] = [
    [dropped.badRow, `skipped as unreadable, the first: ${report.firstBadRow}`],
    [dropped.tooLong, 'dropped: too long'],
    [dropped.noLabels, 'dropped: no trained token'],
    [dropped.empty, 'dropped: empty'],
    [duplicates.exact, 'identical to an earlier row'],
    [duplicates.near, 'identical to an earlier row but for case, punctuation and spaces'],
    [report.emptyOutputs, 'with an empty response'],
    [report.withoutStop, 'without a trained stop token'],
    [report.doubleBos, 'with two BOS tokens at the start'],
    [report.jointDiffers, 'whose ids would differ if prompt and response were encoded as one text'],
  ]
  lines.push(...report.notes)
  for (const [count, what] of found) if (count > 0) lines.push(`${counted(count, 'row')} ${what}`)
  return `${lines.join('\n')}\n`
}

function wholeNumber(name: string, least: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (!Number.isInteger(value) || value < least)
      throw new UsageError(`--${name} must be an integer of at least ${least}, got ${text}`)
    return value
  }
}

/** Data formats with their contents. */
function formatLines(): string {
  const names = FORMATS.map(({ endings }) => endings.join(', '))
  const width = Math.max(...names.map(({ length }) => length))
  return FORMATS.map(({ holds }, i) => `  ${names[i]!.padEnd(width)}  ${holds}`).join('\n')
}

/** `posttrain inspect DATA --model DIR`. */
export function inspectCommand(): Command {
  return new Command('inspect')
    .description('Show which tokens of a data file would be trained')
    .argument('<data>', `Rows: a ${ENDINGS_TEXT} file, or hf://datasets/org/name/file.jsonl`)
    .requiredOption('--model <DIR>', 'Folder with the tokenizer and chat template, or org/name on the Hub')
    .option(
      '--template <NAME>',
      "chat, plain, alpaca, or a .jinja file (default: the model's own, else plain)",
    )
    .option('--rows <N>', 'Rows to show', wholeNumber('rows', 0), 3)
    .option('--max-length <N>', 'Maximum length of a sequence, in tokens', wholeNumber('max-length', 2), 1024)
    .addOption(
      new Option('--train-on <WHAT>', 'Turns to train on')
        .choices(['assistant', 'lastAssistant', 'all'])
        .default('assistant'),
    )
    .addOption(
      new Option('--overflow <WHAT>', 'What to do with longer rows')
        .choices(['truncate', 'drop', 'error'])
        .default('truncate'),
    )
    .addOption(
      new Option('--on-bad-row <WHAT>', 'What to do with rows that cannot be read')
        .choices(['error', 'skip'])
        .default('error'),
    )
    .addOption(
      new Option(
        '--documents <WHAT>',
        'Documents of a .txt file: between blank lines (paragraph), or one a line',
      ).choices(['paragraph', 'line']),
    )
    .option('--json', 'One JSON object per line: the rows, then the report', false)
    .addHelpText('after', `\nData files:\n${formatLines()}`)
    .action(async (data: string, options: InspectOptions & { json: boolean }) => {
      const { template, rows, report } = await inspectData(data, options)
      const write = (text: string) => process.stdout.write(text)
      if (options.json) {
        for (const row of rows) write(`${JSON.stringify({ type: 'row', ...row })}\n`)
        write(`${JSON.stringify({ type: 'report', template, ...report })}\n`)
        return
      }
      const tokenizer = await Tokenizer.load(options.model)
      const color = process.stdout.hasColors?.() === true
      for (const row of rows) write(`${drawRow(row, tokenizer, color)}\n`)
      write(drawReport(report))
      if (report.rows > 0 && report.withoutStop === report.rows) {
        throw new PosttrainError(
          'ERR_DATA',
          `${data}: no row trains a stop token, so the model would never learn to end a response`,
        )
      }
    })
}
