import type { DataReport, PromptReport } from '../data/index.js'
import type { AnyEvent } from '../train/recipes.js'
import type { StepBase } from '../train/run/events.js'
import { describeStrings } from './describe-strings.js'

/** The part of a stream that progress uses, such as process.stderr. */
export interface Terminal {
  isTTY?: boolean
  columns?: number
  write(text: string): unknown
}

/** Shows the progress of a run: a redrawn bar on a terminal, else a line about every two seconds. */
export class Progress {
  readonly #out: Terminal
  readonly #now: () => number
  #total = 0
  #first = 0
  #startedAt = 0
  #shownAt = Number.NEGATIVE_INFINITY
  #bar = ''
  /** Metrics of the last step. */
  #facts = ''

  constructor(out: Terminal, now: () => number = Date.now) {
    this.#out = out
    this.#now = now
  }

  show(event: AnyEvent): void {
    switch (event.type) {
      case 'start': {
        this.#total = event.totalSteps
        this.#first = event.step
        this.#startedAt = this.#now()
        const size = `${compact(event.trainableParameters)} trainable of ${compact(event.parameters)} parameters`
        for (const line of 'trainTokens' in event.report
          ? describeData(event.report)
          : describePrompts(event.report))
          this.line(line)
        this.line(
          `Training ${size}, ${counted(event.totalSteps, 'step')}${event.step > 0 ? ` from step ${event.step}` : ''}`,
        )
        break
      }
      case 'step':
        if (event.skipped) {
          this.line(
            `Step ${event.step} skipped (${event.skipped.reason}), rows ${event.skipped.rows.join(', ')}`,
          )
        }
        this.#step(event)
        break
      case 'epoch':
        this.line(`Epoch ${event.epoch} done, mean loss ${event.loss.toFixed(4)}`)
        break
      case 'evaluation':
        this.line(
          `Step ${event.step}: validation loss ${event.loss.toFixed(4)}${listed(event, EVALUATION)}${event.best ? ', the best so far' : ''}`,
        )
        break
      case 'sample':
        this.line(
          `Step ${event.step}: ${JSON.stringify(event.prompt)} -> ${JSON.stringify(event.text)}${listed(event, SAMPLE)}`,
        )
        break
      case 'checkpoint':
        this.line(`Step ${event.step}: checkpoint ${event.path}`)
        break
      case 'warning':
        this.line(`Warning: ${event.message}`)
        break
      case 'end': {
        const best =
          event.bestLoss === undefined
            ? ''
            : `, best validation loss ${event.bestLoss.toFixed(4)} at step ${event.bestStep}`
        const what = event.model?.endsWith('adapter') ? 'adapter' : 'model'
        // The command itself reports an interruption.
        const lost = event.reason === 'stopped' ? '' : '; nothing was saved, because no --output was given'
        const where = event.model === undefined ? lost : `; ${what} in ${event.model}`
        const result = this.#facts.startsWith('score') ? this.#facts : `loss ${event.loss.toFixed(4)}`
        this.line(
          `Ended after ${counted(event.steps, 'step')} in ${duration(event.seconds)}, ${result}${best}${where}`,
        )
        break
      }
      default:
        event satisfies never
    }
  }

  /** Prints a line above the bar. */
  line(text: string): void {
    if (!this.#bar) {
      this.#out.write(`${text}\n`)
      return
    }
    const bar = this.#bar
    this.clear()
    this.#out.write(`${text}\n`)
    this.#draw(bar)
  }

  /** Removes the bar from the terminal. */
  clear(): void {
    if (this.#bar) this.#out.write('\r\u001b[K')
    this.#bar = ''
  }

  #step(event: StepBase): void {
    this.#facts = factsOf(event)
    const done = event.step >= this.#total
    const every = this.#out.isTTY ? 100 : 2000
    if (this.#now() - this.#shownAt < every && !done && event.step !== this.#first + 1) return
    this.#shownAt = this.#now()
    const perStep = (this.#now() - this.#startedAt) / 1000 / Math.max(1, event.step - this.#first)
    const left = duration(perStep * Math.max(0, this.#total - event.step))
    const facts = `${event.step}/${this.#total} ${this.#facts} ${compact(event.tokensPerSecond)} tokens/s ${left} left`
    if (!this.#out.isTTY) {
      this.#out.write(`${facts}\n`)
      return
    }
    const width = Math.min(30, (this.#out.columns ?? 80) - facts.length - 4)
    const full = Math.round((Math.max(0, width) * event.step) / Math.max(1, this.#total))
    const bar = width < 5 ? facts : `[${'#'.repeat(full)}${'.'.repeat(width - full)}] ${facts}`
    this.clear()
    this.#draw(bar.slice(0, (this.#out.columns ?? 80) - 1))
  }

  #draw(bar: string): void {
    this.#bar = bar
    this.#out.write(bar)
  }
}

/** Metrics that are shown if a recipe has them, with their labels. */
const STEP: [string, string][] = [
  ['score', 'score'],
  ['kl', 'KL'],
  ['responseLength', 'length'],
  ['accuracy', 'accuracy'],
  ['margin', 'margin'],
]
const EVALUATION: [string, string][] = [
  ['perplexity', 'perplexity'],
  ['accuracy', 'accuracy'],
  ['margin', 'margin'],
]
const SAMPLE: [string, string][] = [
  ['score', 'score'],
  ['kl', 'KL'],
]

/** The loss of a policy says little, so its score is shown instead. */
function factsOf(event: StepBase): string {
  const metrics = listed(event, STEP, ' ')
  return 'score' in event ? metrics.trimStart() : `loss ${event.loss.toFixed(4)}${metrics}`
}

function listed(event: object, names: [string, string][], separator = ', '): string {
  const values = event as Record<string, unknown>
  return names
    .filter(([name]) => typeof values[name] === 'number')
    .map(([name, word]) => `${separator}${word} ${twoDigits(values[name] as number)}`)
    .join('')
}

/** A KL near zero prints as 0.00, not -0.00. */
const twoDigits = (value: number) => value.toFixed(2).replace(/^-0\.00$/, '0.00')

/** Data report of prompts in one line, and one more for each possible problem. */
function describePrompts(report: PromptReport): string[] {
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
  concern(
    truncated,
    'truncated, which does not teach where a response ends; a larger --max-length keeps rows whole',
  )
  concern(duplicates.exact, 'identical to an earlier row')
  concern(duplicates.near, 'identical to an earlier row but for case, punctuation and spaces')
  concern(report.sharedWithValidation, 'also among the validation rows')
  concern(report.emptyOutputs, 'with an empty response')
  concern(report.doubleBos, 'with two BOS tokens at the start')
  return [...lines, ...describeStrings(report).map((line) => `Data: ${line}`)]
}

/** Count with its noun: `1 row`, `2 rows`. */
export const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`

function compact(value: number): string {
  if (value >= 1e9) return `${(value / 1e9).toFixed(2)}B`
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)}M`
  if (value >= 1e3) return `${(value / 1e3).toFixed(1)}k`
  return `${Math.round(value)}`
}

/** Duration such as `1h05m`, `2m07s` or `9s`. */
export function duration(seconds: number): string {
  const whole = Math.round(seconds)
  const hours = Math.floor(whole / 3600)
  const minutes = Math.floor((whole % 3600) / 60)
  if (hours > 0) return `${hours}h${String(minutes).padStart(2, '0')}m`
  return minutes > 0 ? `${minutes}m${String(whole % 60).padStart(2, '0')}s` : `${whole}s`
}
