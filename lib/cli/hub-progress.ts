import type { HubEvent } from '../files/hub/events.js'
import { counted, duration, monotonic } from './counts.js'
import { bar as drawBar, type Terminal } from './terminal.js'
import { visible } from './visible.js'

/** Shows transfers from and to the Hub: a redrawn bar on a terminal, else a line about every ten seconds. */
export class HubProgress {
  readonly #out: Terminal
  readonly #now: () => number
  #startedAt = 0
  #shownAt = 0
  #before = 0
  #bar = false

  constructor(out: Terminal, now: () => number = monotonic) {
    this.#out = out
    this.#now = now
  }

  show(event: HubEvent): void {
    switch (event.type) {
      case 'start':
        this.#line(
          `${event.direction === 'download' ? 'Fetching' : 'Sending'} ${event.repository}: ${counted(event.files.length, 'file')}, ${size(event.totalBytes)}`,
        )
        this.#startedAt = this.#now()
        this.#shownAt = this.#startedAt
        this.#before = -1
        break
      case 'progress':
        this.#progress(event.receivedBytes, event.totalBytes)
        break
      case 'retry':
        this.#line(`Continuing ${event.path}: ${event.reason}`)
        break
      case 'wait':
        this.#line(`Waiting for process ${event.pid}, which is fetching ${event.path}`)
        break
      case 'warning':
        this.#line(`Warning: ${event.message}`)
        break
      case 'unreachable':
        this.#line(`Warning: ${event.repository} is used from the cache: ${event.reason}`)
        break
      case 'end':
        this.#line(
          `${event.direction === 'download' ? 'Fetched' : 'Sent'} ${event.repository}: ${event.path}`,
        )
        break
      default:
        event satisfies never
    }
  }

  #progress(received: number, total: number): void {
    // Bytes left by an earlier call arrive at once and say nothing about the speed.
    if (this.#before < 0) this.#before = received
    const now = this.#now()
    if (now - this.#shownAt < (this.#out.isTTY ? 100 : 10_000)) return
    this.#shownAt = now
    const perSecond = ((received - this.#before) / Math.max(1, now - this.#startedAt)) * 1000
    const left = perSecond > 0 ? `, ${duration((total - received) / perSecond)} left` : ''
    const facts = `${size(received)} of ${size(total)}, ${size(perSecond)}/s${left}`
    if (!this.#out.isTTY) {
      this.#out.write(`${facts}\n`)
      return
    }
    const columns = this.#out.columns ?? 80
    const width = Math.min(30, columns - facts.length - 4)
    const bar = width < 5 ? facts : `${drawBar(this.#out, received / Math.max(1, total), width)} ${facts}`
    this.#out.write(`\r\u001b[K${width < 5 ? bar.slice(0, columns - 1) : bar}`)
    this.#bar = true
  }

  #line(text: string): void {
    this.#out.write(`${this.#bar ? '\r\u001b[K' : ''}${visible(text)}\n`)
    this.#bar = false
  }
}

/** Bytes with a unit. */
export function size(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(2)} GB`
  if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(1)} MB`
  return `${(bytes / 1e3).toFixed(bytes < 1e4 ? 1 : 0)} kB`
}
