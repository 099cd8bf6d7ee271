import type { DataReport, PromptReport } from '../data/index.js'
import { compact, counted } from './counts.js'
import { describeStrings } from './describe-strings.js'
import { describeUnread } from './unread-columns.js'

/** Data report of prompts in one line, and one more for each possible problem. */
export function describePrompts(report: PromptReport): string[] {
  const { read, rows, dropped, length, firstBadRow } = report
  const lost = dropped.badRow + dropped.tooLong + dropped.empty
  const lines = [
    `Data: ${counted(rows, 'prompt')} of ${counted(read, 'row')}, ${length.min} to ${length.max} tokens, median ${length.median}`,
  ]
  if (lost > 0)
    lines.push(
      `Data: ${counted(lost, 'prompt')} left out: ${dropped.badRow} bad, ${dropped.tooLong} too long, ${dropped.empty} empty`,
    )
  if (firstBadRow) lines.push(`Data: the first bad row is ${firstBadRow}`)
  for (const note of report.notes) lines.push(`Data: ${note}`)
  return [...lines, ...describeStrings(report).map((line) => `Data: ${line}`)]
}

/** The data report in one line, and one more for each possible problem. */
export function describeData(report: DataReport): string[] {
  const { read, rows, dropped, truncated, tokens, trainTokens, length, duplicates } = report
  const lost = dropped.badRow + dropped.tooLong + dropped.noLabels + dropped.empty
  const lines = [
    `Data: ${counted(rows, 'sequence')} of ${counted(read, 'row')}, ${compact(tokens)} tokens, ${compact(trainTokens)} of them trained, lengths ${length.min} to ${length.max}, median ${length.median}`,
  ]
  const concern = (count: number, text: string) => {
    if (count > 0) lines.push(`Data: ${counted(count, 'row')} ${text}`)
  }
  concern(
    lost,
    `left out: ${dropped.badRow} bad, ${dropped.tooLong} too long, ${dropped.noLabels} without a label, ${dropped.empty} empty`,
  )
  if (report.firstBadRow) lines.push(`Data: the first bad row is ${report.firstBadRow}`)
  for (const note of report.notes) lines.push(`Data: ${note}`)
  lines.push(...describeUnread(report.unreadColumns).map((line) => `Data: ${line}`))
  concern(
    truncated,
    'truncated, which does not teach where a response ends; a larger --max-length keeps rows whole',
  )
  concern(duplicates.exact, 'identical to an earlier row')
  concern(duplicates.near, 'identical to an earlier row but for case, punctuation and spaces')
  concern(report.sharedWithValidation, 'also among the validation rows')
  concern(report.emptyOutputs, 'with an empty response')
  concern(report.doubleBos, 'with two BOS tokens at the start')
  concern(
    report.droppedReasoning,
    'with reasoning that the template leaves out; --reasoning keep trains it, --reasoning drop removes it',
  )
  concern(report.droppedContent, 'with text beside tool calls that the template leaves out')
  concern(report.droppedTools, 'with tools that the template leaves out')
  return [...lines, ...describeStrings(report).map((line) => `Data: ${line}`)]
}
