import { Command, Option } from 'commander'
import { is, type Rule, shown } from '../arguments.js'
import type { DataReport } from '../data/encode/report.js'
import { ENDINGS_TEXT, FORMATS } from '../data/formats/index.js'
import type { PromptReport } from '../data/prompts.js'
import type { ResponseReport } from '../data/responses.js'
import { ROW_KINDS, type RowKind } from '../data/rows/row-kind.js'
import { Tokenizer } from '../data/text/tokenizer.js'
import { PosttrainError } from '../errors.js'
import { readJson, TIME } from '../options/kinds.js'
import { counted } from './counts.js'
import { describeStrings } from './describe-strings.js'
import {
  type InspectedRow,
  type Inspection,
  type InspectOptions,
  inspectData,
  type TokenState,
} from './inspect-rows.js'
import { describeUnread } from './unread-columns.js'
import { UsageError } from './usage.js'
import { visible } from './visible.js'

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

const KINDS: Record<RowKind, string> = {
  sft: 'rows for sft and pretrain',
  preference: 'preferences for reward and dpo',
  unpaired: 'labeled responses for dpo --loss kto',
  prompt: 'prompts for ppo, grpo, rloo and generate',
}

/** Says what the rows are read as, and how to see them as prompts, where the first one has a prompt. */
export function drawKind(
  { kind, hasPrompt }: Pick<Inspection, 'kind' | 'hasPrompt'>,
  as: RowKind | undefined,
): string {
  const why = as === undefined ? ', by the columns of the first row' : ''
  const other = kind === 'prompt' || !hasPrompt ? '' : ' (--as prompt: as prompts for ppo, grpo and rloo)'
  return `Read as ${KINDS[kind]}${why}${other}`
}

/** A row for a terminal: spans of one state share a color, every second token is underlined. */
export function drawRow(row: InspectedRow, tokenizer: Tokenizer, color: boolean): string {
  const { trained, masked, padding } = row.counts
  const weight = row.weight === 1 ? '' : `, weight ${row.weight}`
  const part = row.part === undefined ? '' : `  ${row.part}`
  let out = `${visible(row.source)}${part}  ${trained} trained, ${masked} masked, ${padding} padding${weight}\n`
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
    const text = visible(decoder.push(token.id), '\n').replaceAll('\n', '⏎\n')
    out += color && t % 2 === 1 ? `\x1b[4m${text}\x1b[24m` : text
  }
  enter(null)
  return `${out}\n`
}

/** Lines of the report; counts of zero are left out. */
export function drawReport(report: DataReport | ResponseReport | PromptReport): string {
  const lines = 'trainTokens' in report ? trainingLines(report) : promptLines(report)
  lines.push(...describeStrings({ ...report, example: null }))
  if (report.specialMarks > 0)
    lines.push(
      `${counted(report.specialMarks, 'row')} with marks of special tokens in texts, which were read as text: if the texts are rendered already, say so with --rendered`,
    )
  return `${lines.map((line) => visible(line)).join('\n')}\n`
}

const lengthLine = ({ length }: DataReport | PromptReport, what: string) =>
  `tokens per ${what}: min ${length.min}, median ${length.median}, p90 ${length.p90}, p99 ${length.p99}, max ${length.max}`

const counts = (found: readonly (readonly [number, string])[]) =>
  found.filter(([count]) => count > 0).map(([count, what]) => `${counted(count, 'row')} ${what}`)

function promptLines(report: PromptReport): string[] {
  const { dropped, firstBadRow } = report
  return [
    `${counted(report.read, 'row')} read, ${counted(report.rows, 'prompt')} of ${report.tokens} tokens`,
    lengthLine(report, 'prompt'),
    ...counts([
      [dropped.badRow, `skipped as unreadable, the first: ${firstBadRow}`],
      [dropped.tooLong, 'dropped: too long'],
      [dropped.empty, 'dropped: empty'],
    ]),
  ]
}

function trainingLines(report: DataReport | ResponseReport): string[] {
  const { dropped, duplicates } = report
  const pairs = 'pairs' in report && report.pairs > 0 ? `, ${counted(report.pairs, 'pair')}` : ''
  const what =
    'pairs' in report ? `${counted(report.rows, 'response')} to train${pairs}` : `${report.rows} to train`
  return [
    `${counted(report.read, 'row')} read, ${what}, ${report.truncated} truncated`,
    `${report.tokens} tokens, ${report.trainTokens} of them trained`,
    lengthLine(report, 'pairs' in report ? 'response with its prompt' : 'row'),
    ...report.notes,
    ...describeUnread(report.unreadColumns),
    ...counts([
      [dropped.badRow, `skipped as unreadable, the first: ${report.firstBadRow}`],
      [dropped.tooLong, 'dropped: too long'],
      [dropped.noLabels, 'dropped: no trained token'],
      [dropped.empty, 'dropped: empty'],
      ['identical' in report ? report.identical : 0, 'dropped: chosen and rejected are the same'],
      [
        'apart' in report ? report.apart : 0,
        'whose responses have prompts of their own: for reward, an error in dpo',
      ],
      [duplicates.exact, 'identical to an earlier row'],
      [duplicates.near, 'identical to an earlier row but for case, punctuation and spaces'],
      [report.emptyOutputs, 'with an empty response'],
      [report.withoutStop, 'without a trained stop token'],
      [report.doubleBos, 'with two BOS tokens at the start'],
      [report.partialPrompts, 'with a turn that the template begins otherwise than the prompt of generation'],
      [
        report.unstoppedTurns,
        'with a turn whose end mark is not trained, since generation does not stop at it',
      ],
      [report.droppedReasoning, 'with reasoning that the template leaves out'],
      [report.droppedContent, 'with text beside tool calls that the template leaves out'],
      [report.droppedTools, 'with tools that the template leaves out'],
      [report.jointDiffers, 'whose ids would differ if prompt and response were encoded as one text'],
    ]),
    ...(report.guarded > 0
      ? [`${counted(report.guarded, 'piece')} of data like a special token or turn marker, read as text`]
      : []),
  ]
}

function wholeNumber(name: string, least: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (!Number.isInteger(value) || value < least)
      throw new UsageError(`--${name} must be an integer of at least ${least}, got ${text}`)
    return value
  }
}

/** Reads the text of a flag, which must be as a rule says. */
function checked(name: string, { test, expected }: Rule, read: (text: string) => unknown) {
  return (text: string) => {
    const value = read(text)
    if (test(value)) return value
    throw new UsageError(`--${name} must be ${expected}, got ${shown(value)}`)
  }
}

/** Throws for flags that have no effect on a kind of rows. */
function refuseIdle(kind: RowKind, given: (name: string) => boolean): void {
  const idle = {
    sft: [],
    preference: ['trainOn', 'overflow'],
    unpaired: ['trainOn', 'overflow'],
    prompt: ['trainOn', 'reasoning'],
  }
  const name = idle[kind].find(given)
  if (name === undefined) return
  const flag = name === 'trainOn' ? '--train-on' : `--${name}`
  throw new UsageError(`${flag} has no effect on ${kind} rows: leave it out`)
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
      "chat, plain, alpaca, a .jinja file, or none, which takes string prompts raw (default: the model's own; else plain, and string prompts raw)",
    )
    .option(
      '--template-arguments <JSON>',
      `Further variables of the chat template, such as '{"enable_thinking": false}'`,
      checked('template-arguments', is.object, readJson),
    )
    .addOption(
      new Option('--reasoning <WHAT>', 'What to do with reasoning')
        .choices(['template', 'drop', 'keep'])
        .default('template'),
    )
    .option(
      '--template-time <TIME>',
      "Time that a template's date tells, such as 2026-01-02T03:04:05Z (default: now)",
      checked('template-time', TIME, (text) => text),
    )
    .option(
      '--rendered',
      'Texts are rendered already: no turn is put around them, and marks of special tokens are special tokens',
      false,
    )
    .addOption(
      new Option('--as <KIND>', 'Kind of the rows (default: that of the first row)').choices(ROW_KINDS),
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
    .action(async (data: string, options: InspectOptions & { json: boolean }, command: Command) => {
      const inspection = await inspectData(data, options)
      const { kind, template, rows, report } = inspection
      refuseIdle(kind, (name) => command.getOptionValueSource(name) === 'cli')
      const write = (text: string) => process.stdout.write(text)
      if (options.json) {
        for (const row of rows) write(`${JSON.stringify({ type: 'row', kind, ...row })}\n`)
        write(`${JSON.stringify({ type: 'report', kind, template, ...report })}\n`)
        return
      }
      const tokenizer = await Tokenizer.load(options.model)
      const color = process.stdout.hasColors?.() === true
      write(`${drawKind(inspection, options.as)}\n\n`)
      for (const row of rows) write(`${drawRow(row, tokenizer, color)}\n`)
      write(drawReport(report))
      if ('withoutStop' in report && report.rows > 0 && report.withoutStop === report.rows) {
        throw new PosttrainError(
          'ERR_DATA',
          `${data}: no row trains a stop token, so the model would never learn to end a response`,
        )
      }
    })
}
