import type { MemoryEstimate } from '../estimate/estimate.js'
import { PARTS } from '../estimate/ledger.js'
import type { Probe } from '../estimate/probe.js'
import type { RecipeName } from '../train/recipes.js'
import { counted } from './counts.js'

/** Report of `posttrain estimate`. */
export interface EstimateReport extends MemoryEstimate {
  type: 'estimate'
  recipe: RecipeName
  device: string
  dtype: string
  /** Available bytes, less those of the process; null if unknown. */
  memory: number | null
  fits: boolean | null
  /** The largest batch of one backward that fits; null if none does or the memory is unknown. */
  largestBatch: { documents: number; tokens: number } | null
  probe: Probe | null
}

const size = (bytes: number) =>
  bytes >= 1e9
    ? `${(bytes / 1e9).toFixed(2)} GB`
    : bytes >= 1e6
      ? `${(bytes / 1e6).toFixed(1)} MB`
      : `${(bytes / 1e3).toFixed(1)} kB`

const rounded = (count: number) =>
  count < 1e9 ? `${(count / 1e6).toPrecision(4)} million` : `${(count / 1e9).toPrecision(4)} billion`

/** Aligns cells in columns: the first to the left, the others to the right. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  return rows
    .map((row) =>
      row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  '),
    )
    .join('\n')
}

/** Renders the report as text. */
export function drawEstimate(report: EstimateReport): string {
  const { recipe, sizes, phases, held, peak, memory, probe } = report
  const { documents, tokens, labels, answers, promptTokens, batch } = sizes
  const lines = [
    `${recipe} of ${rounded(report.parameters)} parameters, ${rounded(report.trainableParameters)} trained, on ${report.device}, ${report.dtype}`,
    batch !== null
      ? `${counted(documents, 'row')} with ${batch.lengths.reduce((sum, length) => sum + length, 0)} tokens in one backward, the largest batch of the data; its longest row has ${tokens}`
      : answers > 0
        ? `${counted(answers, 'response')} of ${promptTokens} + ${labels} tokens per rollout, ${Math.min(documents, answers)} in one backward`
        : `${counted(documents, 'row')} of ${tokens} tokens in one backward`,
    '',
    table([
      ['peak', ...phases.map(({ phase }) => phase)],
      ...[...PARTS, 'total' as const]
        .filter((part) => phases.some(({ peak: bytes }) => bytes[part] > 0))
        .map((part) => [part, ...phases.map(({ peak: bytes }) => size(bytes[part]))]),
    ]),
    '',
    table([
      ['always allocated', ''],
      ...held.map(({ part, name, bytes }) => [`${part} of the ${name}`, size(bytes)]),
    ]),
    '',
  ]
  if (memory === null) lines.push(`needs ${size(peak)}; --memory SIZE says whether it fits`)
  else {
    const there = memory > 0 ? `${size(memory)} available` : 'nothing left beside the process itself'
    lines.push(`needs ${size(peak)}, ${there}: ${report.fits ? 'fits' : 'does not fit'}`)
    const most = report.largestBatch
    lines.push(
      most === null
        ? `no batch fits, not even one row of ${tokens} tokens: ${answers > 0 ? 'fewer responses per rollout, ' : ''}--lora-rank, --activation-checkpointing and shorter rows need less`
        : `largest batch that fits: ${counted(most.documents, 'row')}, ${most.tokens} tokens (${flagOf(recipe)})`,
    )
  }
  if (probe !== null) {
    const { seconds } = probe
    const parts = seconds
      ? ` (rollout ${seconds.rollout.toFixed(2)}, score ${seconds.score.toFixed(2)}, update ${seconds.update.toFixed(2)})`
      : ''
    lines.push(
      `time per step: ${probe.secondsPerStep.toFixed(2)} s${parts} for ${probe.tokensPerStep.toFixed(0)} tokens, mean of ${counted(probe.steps, 'step')}`,
    )
    if (probe.peakBytes !== null) lines.push(`measured peak: ${size(probe.peakBytes)}`)
  }
  return `${lines.join('\n')}\n`
}

const flagOf = (recipe: RecipeName) =>
  recipe === 'reward' || recipe === 'dpo' ? '--batch-size, in pairs' : '--batch-tokens'
