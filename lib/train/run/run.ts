import type { DataReport } from '../../data/index.js'
import { AbortError, PosttrainError } from '../../errors.js'
import type { EndEvent, EvaluationBase, EvaluationEvent, StepBase, StepEvent, TrainEvent } from './events.js'

/** What a recipe looks at between steps, and what it offers while it is between two steps. */
export interface RunControl {
  /** Aborted by `stop()`: the recipe ends after the step under way, as if it had come to its last one. */
  readonly stop: AbortSignal
  /** Set by the recipe once there is something to save: writes a checkpoint and gives its folder. */
  save: (() => Promise<string>) | null
  /** Set by the recipe at its start: what its end event would say now. */
  summary: ((reason: EndEvent['reason']) => EndEvent) | null
}

/** Whether the start event of a run was reached: from there on the model is what the run made of it. */
export const hasStarted = (control: RunControl) => (): boolean => control.summary !== null

/** A recipe: yields events only between two optimizer steps, and returns its last event. */
export type Recipe<Event> = (control: RunControl) => AsyncGenerator<Event, EndEvent>

/**
 * A training run that advances as its events are consumed.
 *
 * ```ts
 * const run = sft({ model, data: 'train.jsonl', output: 'runs/first' })
 * for await (const event of run) if (event.type === 'step') console.log(event.step, event.loss)
 * const { bestLoss } = await run.finish()
 * ```
 *
 * It starts at the first pull. Not pulling pauses it. `break` ends it after the last whole step: what the run
 * holds is released, the model keeps the weights of that step, nothing further is saved. There is one
 * consumer: a second loop is an error. A failure rejects the pull under way, and `finish()`, with the
 * same error.
 *
 * A model is trained by one run at a time, until that has ended; adapters of one base by one each. Between two events it
 * may be asked, and used with another adapter, as long as what is trained is in use again when the run goes on.
 */
export class Run<
  Step extends StepBase = StepEvent,
  Evaluation extends EvaluationBase = EvaluationEvent,
  Report = DataReport,
> implements AsyncIterable<TrainEvent<Step, Evaluation, Report>>
{
  readonly #stop = new AbortController()
  readonly #control: RunControl = { stop: this.#stop.signal, save: null, summary: null }
  readonly #events: AsyncGenerator<TrainEvent<Step, Evaluation, Report>, EndEvent>
  #state: 'idle' | 'running' | 'ended' = 'idle'
  #consumed = false
  #last: EndEvent | null = null
  #failure: { error: unknown } | null = null
  /** Pulls and saves follow one another, so that a save always sees a whole step. */
  #queue: Promise<unknown> = Promise.resolve()

  /** @internal */
  constructor(recipe: Recipe<TrainEvent<Step, Evaluation, Report>>) {
    this.#events = recipe(this.#control)
  }

  [Symbol.asyncIterator](): AsyncIterator<TrainEvent<Step, Evaluation, Report>, undefined> {
    if (this.#consumed) {
      throw new PosttrainError('ERR_INVALID_ARGUMENT', 'A run has one consumer: it is already being read')
    }
    this.#consumed = true
    return {
      next: () => this.#pull(),
      return: async () => {
        await this.#end()
        return { done: true, value: undefined }
      },
    }
  }

  /**
   * Drains the run and gives its last event. After a loop over the events it gives the same at once; after a
   * `break`, an event with reason `'stopped'` for the steps that were made.
   */
  async finish(): Promise<EndEvent> {
    if (!this.#consumed) {
      for await (const _ of this);
    } else if (this.#state !== 'ended') {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        'finish() was called while the events of the run are being read: leave the loop first',
      )
    }
    await this.#queue
    if (this.#failure) throw this.#failure.error
    if (this.#last) return this.#last
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      'The run was left before its first event: there is no result',
    )
  }

  /**
   * Writes a checkpoint after the step under way (or at once while the run is paused) and gives its folder.
   * Throws ERR_INVALID_ARGUMENT before the start event, after the end, and for a run without `output`.
   */
  save(): Promise<string> {
    return this.#enqueue(() => {
      if (!this.#control.save) {
        const why =
          this.#state === 'ended' ? 'has ended' : this.#state === 'idle' ? 'has not started' : 'has no output'
        throw new PosttrainError('ERR_INVALID_ARGUMENT', `save(): the run ${why}`)
      }
      return this.#control.save()
    })
  }

  /**
   * Ends the run after the step under way: it saves as at its regular end, and its end event says `'stopped'`. An
   * iteration of PPO, GRPO and RLOO that still draws answers or waits for rewards is dropped; a resume makes it again.
   */
  stop(): void {
    this.#stop.abort()
  }

  #pull(): Promise<IteratorResult<TrainEvent<Step, Evaluation, Report>, undefined>> {
    return this.#enqueue(async () => {
      if (this.#state === 'ended') return { done: true, value: undefined }
      this.#state = 'running'
      try {
        const { done, value } = await this.#events.next()
        if (done) {
          this.#last = value
          this.#close()
        }
        return { done: false, value }
      } catch (error) {
        this.#failure = { error }
        this.#close()
        throw error
      }
    })
  }

  #end(): Promise<void> {
    return this.#enqueue(async () => {
      if (this.#state === 'ended') return
      this.#stop.abort()
      this.#last = this.#control.summary?.('stopped') ?? null
      this.#close()
      // The recipe is between two steps here: its `finally` blocks run, and it gives no further event.
      await this.#events.return(undefined as unknown as EndEvent)
    })
  }

  #close(): void {
    this.#state = 'ended'
    this.#control.save = null
  }

  #enqueue<T>(task: () => Promise<T> | T): Promise<T> {
    const result = this.#queue.then(task)
    this.#queue = result.catch(() => undefined)
    return result
  }
}

/** Throws an AbortError when the signal was raised. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AbortError(signal.reason)
}
