import { duration, monotonic } from './counts.js'
import { bar as drawBar, type Terminal } from './terminal.js'
import { visible } from './visible.js'

const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(bytes < 10e6 ? 1 : 0)} MB`

/** Shows the progress of a transfer: a bar on a terminal, else a line at its start and every 20 seconds. */
export class TransferProgress {
  readonly #out: Terminal
  readonly #now: () => number
  #label = ''
  #first = { at: 0, bytes: 0 }
  #shownAt = Number.NEGATIVE_INFINITY
  #drawn = false

  constructor(out: Terminal, now: () => number = monotonic) {
    this.#out = out
    this.#now = now
  }

  show(label: string, bytes: number, total: number): void {
    const now = this.#now()
    const isNew = label !== this.#label
    if (isNew) {
      this.clear()
      this.#label = label
      this.#first = { at: now, bytes }
    }
    if (!isNew && bytes < total && now - this.#shownAt < (this.#out.isTTY ? 100 : 20_000)) return
    if (!this.#out.isTTY && !isNew && bytes >= total) return
    this.#shownAt = now
    const seconds = (now - this.#first.at) / 1000
    const speed = seconds > 0 ? (bytes - this.#first.bytes) / seconds : 0
    const left = speed > 0 ? `, ${megabytes(speed)}/s, ${duration((total - bytes) / speed)} left` : ''
    const facts = `${visible(label)}: ${megabytes(bytes)} of ${megabytes(total)}${left}`
    if (!this.#out.isTTY) {
      this.#out.write(`${facts}\n`)
      return
    }
    const columns = (this.#out.columns ?? 80) - 1
    const width = Math.min(20, columns - facts.length - 3)
    const bar = width < 5 ? facts : `${drawBar(this.#out, bytes / Math.max(1, total), width)} ${facts}`
    this.#out.write(`\r\u001b[K${width < 5 ? bar.slice(0, columns) : bar}`)
    this.#drawn = true
  }

  /** Prints a line above the bar. */
  line(text: string): void {
    this.clear()
    this.#out.write(`${visible(text)}\n`)
    this.#label = ''
  }

  /** Removes the bar from the terminal. */
  clear(): void {
    if (this.#drawn) this.#out.write('\r\u001b[K')
    this.#drawn = false
  }
}
