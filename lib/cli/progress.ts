import type { AnyEvent } from '../train/recipes.js'
import type { StepBase } from '../train/run/events.js'

import type { RunPhase } from '../train/run/run.js'
import { compact, counted, duration, monotonic } from './counts.js'
import { describeData, describePrompts } from './data-report.js'
import { bar, columnsOf, fitted, paint, type Terminal } from './terminal.js'
import { visible } from './visible.js'

/** Phases as they are shown. */
const PHASES: Record<RunPhase | 'loading' | 'first' | 'stopping', string> = {
  loading: 'Loading the model',
  reading: 'Reading the data',
  first: 'First step',
  training: 'Training',
  reference: 'Computing the log-probabilities of the reference',
  rollout: 'Sampling responses',
  scoring: 'Scoring responses',
  evaluating: 'Evaluating',
  sampling: 'Generating samples',
  saving: 'Saving',
  stopping: 'Stopping after this step',
}
export type Phase = keyof typeof PHASES

/** Shows the progress of a run: a redrawn line on a terminal, else a line about every two seconds. */
export class Progress {
  readonly #out: Terminal
  readonly #now: () => number
  #total = 0
  #first = 0
  #startedAt = 0
  #shownAt = Number.NEGATIVE_INFINITY
  /** Text of the redrawn line; null if none is drawn. */
  #drawn: string | null = null
  #phase: Phase | null = null
  #phaseAt = 0
  #stepAt = 0
  #hasEnded = false
  #last: StepBase | null = null
  #facts = ''

  constructor(out: Terminal, now: () => number = monotonic) {
    this.#out = out
    this.#now = now
  }

  /** Begins a phase, which a terminal shows at once; elsewhere those before the first step have a line each. */
  enter(phase: Phase): void {
    if (phase === 'training' && this.#last === null && this.#total > 0) phase = 'first'
    if (phase === this.#phase || this.#hasEnded) return
    this.#phase = phase
    this.#phaseAt = this.#now()
    if (this.#out.isTTY) this.tick()
    else if (phase === 'loading' || phase === 'reading') this.#out.write(`${PHASES[phase]}\n`)
  }

  /** Redraws the line on a terminal, for the time that passes. */
  tick(): void {
    if (!this.#out.isTTY || this.#phase === null) return
    const seconds = (this.#now() - this.#phaseAt) / 1000
    const text = this.#last
      ? this.#stepLine(this.#last)
      : `${PHASES[this.#phase]}${seconds < 1 ? '' : ` ${duration(seconds)}`}`.slice(0, this.#columns())
    if (text === this.#drawn) return
    // Over the old text, and erased behind it: a line that is erased first flickers.
    this.#out.write(this.#drawn === null ? text : `\r${text}\u001b[K`)
    this.#drawn = text
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
        this.enter('training')
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
        this.line(`Epoch ${event.epoch} done, mean loss ${digits(event.loss)}`)
        break
      case 'evaluation':
        this.line(
          `Step ${event.step}: validation loss ${digits(event.loss)}${listed(event, EVALUATION)}${event.best ? ', the best so far' : ''}`,
          event.best ? 'green' : undefined,
        )
        break
      case 'sample':
        this.line(
          `Step ${event.step}: ${JSON.stringify(event.prompt)} -> ${JSON.stringify(event.text)}${listed(event, SAMPLE)}`,
        )
        break
      case 'checkpoint':
        this.line(`Step ${event.step}: checkpoint ${event.path}`, 'dim')
        break
      case 'warning':
        this.line(`Warning: ${event.message}`, 'yellow')
        break
      case 'end': {
        const best =
          event.bestLoss === undefined
            ? ''
            : `, best validation loss ${digits(event.bestLoss)} at step ${event.bestStep}`
        const what = event.model?.endsWith('adapter') ? 'adapter' : 'model'
        const where = event.model === undefined ? '' : `; ${what} in ${event.model}`
        const result = this.#facts.startsWith('score') ? this.#facts : `loss ${digits(event.loss)}`
        this.#phase = null
        this.#hasEnded = true
        this.line(
          `Ended after ${counted(event.steps, 'step')} in ${duration(event.seconds)}, ${result}${best}${where}`,
        )
        break
      }
      default:
        event satisfies never
    }
  }

  /** Prints a line above the redrawn one. */
  line(text: string, color?: 'green' | 'yellow' | 'dim'): void {
    const isDrawn = this.#drawn !== null
    this.clear()
    this.#out.write(`${paint(this.#out, color, fitted(this.#out, visible(text)))}\n`)
    if (isDrawn) this.tick()
  }

  /** Removes the redrawn line from the terminal. */
  clear(): void {
    if (this.#drawn !== null) this.#out.write('\r\u001b[K')
    this.#drawn = null
  }

  #columns(): number {
    return Math.max(20, this.#out.columns || 80) - 1
  }

  #step(event: StepBase): void {
    this.#last = event
    this.#facts = factsOf(event)
    this.#phase = 'training'
    this.#phaseAt = this.#stepAt = this.#now()
    const done = event.step >= this.#total
    const every = this.#out.isTTY ? 100 : 2000
    if (this.#now() - this.#shownAt < every && !done && event.step !== this.#first + 1) return
    this.#shownAt = this.#now()
    if (this.#out.isTTY) this.tick()
    else this.#out.write(`${this.#stepTexts(event).join(' ')}\n`)
  }

  /** Texts of a step, the most needed first, but for the time left at the end. */
  #stepTexts(event: StepBase): string[] {
    const perStep = (this.#stepAt - this.#startedAt) / 1000 / Math.max(1, event.step - this.#first)
    const rest = perStep * Math.max(0, this.#total - event.step) - (this.#now() - this.#stepAt) / 1000
    const left = `${duration(Math.max(0, rest))} left`
    const isDone = event.step >= this.#total
    return [
      `${event.step}/${this.#total}`,
      this.#facts,
      `epoch ${event.epoch.toFixed(2)}`,
      `lr ${rate(event.learningRate)}`,
      `${compact(event.tokensPerSecond)} tokens/s`,
      this.#phase === null || this.#phase === 'training'
        ? left
        : `${PHASES[this.#phase].toLowerCase()} ${duration((this.#now() - this.#phaseAt) / 1000)}${isDone ? '' : `, ${left}`}`,
    ]
  }

  /** A bar and the texts of a step, fewer of them on a narrow terminal. */
  #stepLine(event: StepBase): string {
    const texts = this.#stepTexts(event)
    const width = this.#columns()
    const joined = () => texts.join('  ')
    while (texts.length > 3 && columnsOf(joined()) > width) texts.splice(-2, 1)
    const room = Math.min(30, width - columnsOf(joined()) - 2)
    const text = columnsOf(joined()) > width ? joined().slice(0, width) : joined()
    return room < 5 ? text : `${bar(this.#out, event.step / Math.max(1, this.#total), room)}  ${text}`
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
  return 'score' in event ? metrics.trimStart() : `loss ${digits(event.loss)}${metrics}`
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

/** A learning rate in at most four digits: `0.001`, `1e-6`. */
function rate(value: number): string {
  const short = Number(value.toPrecision(4))
  return short !== 0 && Math.abs(short) < 1e-3 ? short.toExponential() : String(short)
}

/** A number in four significant digits: `2.000`, `0.1235`, `1e-6`. */
export function digits(value: number): string {
  if (value === 0) return '0'
  const size = Math.abs(value)
  if (size >= 1e4 && size < 1e6) return String(Number(value.toPrecision(4)))
  if (size >= 1e-3 && size < 1e6) return value.toPrecision(4)
  return Number(value.toPrecision(4)).toExponential()
}
