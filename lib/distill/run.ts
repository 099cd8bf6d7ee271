import { PosttrainError } from '../errors.js'
import type { Asker } from './ask.js'
import type { DistillEndEvent, DistillEvent } from './events.js'

/** State shared by the run and its tasks. */
export class DistillControl {
  readonly output: string
  /** Counts of the end event. */
  rows = 0
  total = 0
  written = 0
  failed = 0
  duplicates = 0
  asker: Asker | null = null
  readonly #since = performance.now()
  readonly #halting = new AbortController()
  #events: DistillEvent[] = []
  #wake: () => void = () => undefined
  #changed: Promise<void> = Promise.resolve()

  constructor(output: string) {
    this.output = output
    this.#rearm()
  }

  /** Aborted by `stop`: no task is started and no request retried after it. */
  get halt(): AbortSignal {
    return this.#halting.signal
  }

  stop(): void {
    this.#halting.abort()
    this.wake()
  }

  emit(event: DistillEvent): void {
    this.#events.push(event)
    this.wake()
  }

  /** Returns the events since the last call. */
  take(): DistillEvent[] {
    const events = this.#events
    this.#events = []
    return events
  }

  wake(): void {
    this.#wake()
  }

  /** Resolves at the first `wake` since the last call. */
  async changed(): Promise<void> {
    await this.#changed
    this.#rearm()
  }

  end(): DistillEndEvent {
    const { output, rows, total, written, failed, duplicates, asker } = this
    const seconds = (performance.now() - this.#since) / 1000
    return {
      type: 'end',
      reason: this.halt.aborted ? 'stopped' : 'done',
      output,
      rows,
      total,
      written,
      failed,
      duplicates,
      requests: asker?.requests ?? 0,
      retries: asker?.retries ?? 0,
      promptTokens: asker?.promptTokens ?? 0,
      completionTokens: asker?.completionTokens ?? 0,
      seconds,
    }
  }

  #rearm(): void {
    this.#changed = new Promise((resolve) => {
      this.#wake = resolve
    })
  }
}

/** Events of one `distill` run, for one consumer. The run starts when the first event is requested. */
export class DistillRun implements AsyncIterable<DistillEvent> {
  readonly #control: DistillControl
  readonly #events: AsyncGenerator<DistillEvent, void>
  #consumed = false
  #ended = false
  #last: DistillEndEvent | null = null
  #failure: { error: unknown } | null = null

  /** @internal */
  constructor(output: string, start: (control: DistillControl) => AsyncGenerator<DistillEvent, void>) {
    this.#control = new DistillControl(output)
    this.#events = start(this.#control)
  }

  [Symbol.asyncIterator](): AsyncIterator<DistillEvent, undefined> {
    if (this.#consumed) {
      throw new PosttrainError('ERR_INVALID_ARGUMENT', 'A run has one consumer: it is already being read')
    }
    this.#consumed = true
    return {
      next: async () => {
        try {
          const { value, done } = await this.#events.next()
          this.#ended = done === true
          if (value?.type === 'end') this.#last = value
          return value ? { done: false, value } : { done: true, value: undefined }
        } catch (error) {
          this.#ended = true
          this.#failure = { error }
          throw error
        }
      },
      return: async () => {
        this.#control.stop()
        await this.#events.return()
        this.#ended = true
        return { done: true, value: undefined }
      },
    }
  }

  /** Starts no new work; requests in flight are finished and written, then the run ends. */
  stop(): void {
    this.#control.stop()
  }

  /** Consumes the remaining events and returns the end event; after a `break`, one with reason `'stopped'`. */
  async finish(): Promise<DistillEndEvent> {
    if (!this.#consumed) {
      for await (const _ of this);
    } else if (!this.#ended) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        'finish() was called while the events of the run are being read: leave the loop first',
      )
    }
    if (this.#failure) throw this.#failure.error
    this.#last ??= this.#control.end()
    return this.#last
  }
}
