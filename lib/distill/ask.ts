import { setTimeout as sleep } from 'node:timers/promises'
import { shorten } from '../arguments.js'
import type { Message } from '../data/index.js'
import type { TemplateArguments } from '../data/text/template.js'
import { AbortError } from '../errors.js'
import { hash32 } from '../random.js'
import type { DistillRetryEvent } from './events.js'
import type { ResolvedDistillOptions } from './options.js'
import { type Question, type Reply, type Teacher, TeacherFailure } from './teacher.js'

/** Most characters of a refusal in a message. */
const MAX_REFUSAL = 100

/** Delay before the first retry; doubles with each further one. */
const BACKOFF_MS = 500
const MAX_BACKOFF_MS = 60_000
/** Longest delay requested by an endpoint that is respected; a longer one fails the question. */
const MAX_RETRY_AFTER_MS = 600_000

/** The run was stopped while a question waited for its next attempt. */
export class Unfinished extends Error {}

export interface Inquiry {
  seedId: string
  /** Distinguishes several questions about one seed, so that their samples differ. */
  number?: number
  messages: readonly Message[]
  /** Further variables of the template for this question, which come before those of the run. */
  templateArguments?: TemplateArguments | undefined
  /** First attempt at temperature 0. */
  exact?: boolean
}

type AskOptions = Pick<
  ResolvedDistillOptions,
  'retries' | 'concurrency' | 'temperature' | 'maxNewTokens' | 'seed' | 'templateArguments'
>

/** Asks a teacher at most `concurrency` questions at once and retries each until its answer is usable. */
export class Asker {
  requests = 0
  retries = 0
  promptTokens = 0
  completionTokens = 0
  readonly #teacher: Teacher
  readonly #options: AskOptions
  readonly #signal: AbortSignal
  readonly #halt: AbortSignal
  readonly #onRetry: (event: DistillRetryEvent) => void
  #free: number
  readonly #queue: (() => void)[] = []

  /** `signal` aborts requests; `halt` ends the delays before retries. */
  constructor(
    teacher: Teacher,
    options: AskOptions,
    on: { signal: AbortSignal; halt: AbortSignal; retry: (event: DistillRetryEvent) => void },
  ) {
    this.#teacher = teacher
    this.#options = options
    this.#signal = on.signal
    this.#halt = on.halt
    this.#onRetry = on.retry
    this.#free = options.concurrency
  }

  /**
   * Asks and returns what `read` extracts; `read` throws a TeacherFailure for an unusable answer. Rejects with the last
   * TeacherFailure, with Unfinished after a stop, or with AbortError.
   */
  async ask<T>(inquiry: Inquiry, read: (text: string) => T): Promise<T> {
    if (this.#free > 0) this.#free--
    else await new Promise<void>((resolve) => this.#queue.push(resolve))
    try {
      for (let attempt = 0; ; attempt++) {
        const question = this.#question(inquiry, attempt)
        try {
          return read(await this.#once(question))
        } catch (error) {
          if (!(error instanceof TeacherFailure)) throw error
          await this.#beforeNext(error, inquiry, attempt)
        }
      }
    } finally {
      // The slot passes to the next in the queue, or becomes free.
      const next = this.#queue.shift()
      if (next) next()
      else this.#free++
    }
  }

  #question(inquiry: Inquiry, attempt: number): Question {
    const { seedId, number = 0, messages, templateArguments, exact = false } = inquiry
    const { temperature = this.#teacher.temperature, maxNewTokens, seed } = this.#options
    const stream = Number.parseInt(seedId.slice(-8), 16)
    return {
      messages,
      templateArguments: { ...this.#options.templateArguments, ...templateArguments },
      maxNewTokens,
      temperature: exact && attempt === 0 && temperature !== undefined ? 0 : temperature,
      // Positive in 32 bits, which every server accepts.
      seed: hash32(seed, stream, number * 1000 + attempt) >>> 1,
    }
  }

  async #once(question: Question): Promise<string> {
    if (this.#signal.aborted) throw new AbortError(this.#signal.reason)
    this.requests++
    const reply: Reply = await this.#teacher.ask(question, this.#signal)
    this.promptTokens += reply.promptTokens
    this.completionTokens += reply.completionTokens
    const text = reply.text.trim()
    switch (reply.finish) {
      case 'refused':
        throw new TeacherFailure(
          'answer',
          `the teacher refused${text === '' ? '' : `: ${shorten(text, MAX_REFUSAL)}`}`,
        )
      case 'length':
        throw new TeacherFailure(
          'answer',
          `the answer was cut off at maxNewTokens (${question.maxNewTokens})`,
        )
      case 'stop':
        break
      default:
        reply.finish satisfies never
    }
    if (text === '') throw new TeacherFailure('answer', 'the answer is empty')
    return text
  }

  /** Returns when the question should be retried, else throws. */
  async #beforeNext(failure: TeacherFailure, inquiry: Inquiry, attempt: number): Promise<void> {
    const { seedId } = inquiry
    const greedy = [attempt, attempt + 1].every((n) => this.#question(inquiry, n).temperature === 0)
    const same = failure.kind === 'answer' && this.#teacher.repeats && greedy
    const tooLong = failure.retryAfterMs !== undefined && failure.retryAfterMs > MAX_RETRY_AFTER_MS
    if (failure.kind === 'request' || attempt >= this.#options.retries || same || tooLong) throw failure
    if (this.#halt.aborted)
      throw this.#signal.aborted ? new AbortError(this.#signal.reason) : new Unfinished()
    const backoff = Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** attempt) * (0.75 + Math.random() / 4)
    const waitMs = failure.kind === 'answer' ? 0 : Math.round(failure.retryAfterMs ?? backoff)
    this.retries++
    this.#onRetry({ type: 'retry', seedId, attempt: attempt + 1, reason: failure.message, waitMs })
    if (waitMs === 0) return
    await sleep(waitMs, undefined, { signal: this.#halt }).catch(() => {
      throw this.#signal.aborted ? new AbortError(this.#signal.reason) : new Unfinished()
    })
  }
}
