import type { DataReport } from '../../data/index.js'
import { PosttrainError } from '../../errors.js'
import type { EndEvent, EvaluationBase, EvaluationEvent, StepBase, StepEvent, TrainEvent } from './events.js'

/** Link between a run and its recipe: requests of the run, and what the recipe offers between two steps. */
export interface RunControl {
  /** Aborted by `stop()`: the recipe ends after the current step as after its last one. */
  readonly stop: AbortSignal
  /** Whether the consumer left the run: `stop` is aborted too, and nothing more is saved. */
  left: boolean
  /** Set by the recipe at its start event, with a run folder: writes a checkpoint and returns its path. */
  save: (() => Promise<string>) | null
  /** Set by the recipe at its start event: the end event for the current state. */
  summary: ((reason: EndEvent['reason']) => EndEvent) | null
  /** Set by the recipe as it proceeds. */
  phase: RunPhase
}

/**
 * What a run is doing between two events: reading its data, computing the log-probabilities of a reference that is kept, the
 * responses of a rollout and their scores, updates, or what follows a step.
 */
export type RunPhase =
  | 'reading'
  | 'reference'
  | 'rollout'
  | 'scoring'
  | 'training'
  | 'evaluating'
  | 'sampling'
  | 'saving'

/** Whether a run has reached its start event, after which its changes to the model are kept. */
export const hasStarted = (control: RunControl) => (): boolean => control.summary !== null

/** A recipe: yields events only between two optimizer steps and returns its end event. */
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
 * It starts when the first event is pulled and pauses while none is. `break` ends it after the last complete step: the
 * model keeps the weights of that step, its locks and files are released, nothing more is saved. A run has one consumer;
 * a second loop is an error. A failure rejects the current pull, and `finish()`, with the same error.
 *
 * A model is trained by one run at a time; several adapters of one base may be trained by one run each. Between two events
 * the model may generate and use another adapter, provided that the trained one is in use again before the next event.
 */
export class Run<
  Step extends StepBase = StepEvent,
  Evaluation extends EvaluationBase = EvaluationEvent,
  Report = DataReport,
> implements AsyncIterable<TrainEvent<Step, Evaluation, Report>>, AsyncDisposable
{
  readonly #stop = new AbortController()
  readonly #control: RunControl = {
    stop: this.#stop.signal,
    left: false,
    save: null,
    summary: null,
    phase: 'reading',
  }
  readonly #events: AsyncGenerator<TrainEvent<Step, Evaluation, Report>, EndEvent>
  #state: 'idle' | 'running' | 'ended' = 'idle'
  #consumed = false
  #last: EndEvent | null = null
  #failure: { error: unknown } | null = null
  /** Serializes pulls and saves, so that a save always sees a complete step. */
  #queue: Promise<unknown> = Promise.resolve()

  /** @internal */
  constructor(recipe: Recipe<TrainEvent<Step, Evaluation, Report>>) {
    this.#events = recipe(this.#control)
  }

  [Symbol.asyncIterator](): AsyncIterator<TrainEvent<Step, Evaluation, Report>, undefined> {
    if (this.#consumed) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        'A run has one consumer: its events are already being consumed',
      )
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

  /** What the run is doing now, for a display while no event comes. */
  get phase(): RunPhase {
    return this.#control.phase
  }

  /**
   * Runs to the end and returns the end event. After a loop over the events it returns at once; after a `break`, with
   * reason `'stopped'` and the steps done.
   */
  async finish(): Promise<EndEvent> {
    if (!this.#consumed) {
      for await (const _ of this);
    } else if (this.#state !== 'ended') {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        'finish() was called while the events of the run are being consumed: leave the loop first',
      )
    }
    await this.#queue
    if (this.#failure) throw this.#failure.error
    if (this.#last) return this.#last
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      'The run was ended before its first event: it has no result',
    )
  }

  /**
   * Writes a checkpoint after the current step (at once while the run is paused) and returns its path.
   * Throws ERR_INVALID_ARGUMENT before the start event, after the end, and for a run without `output`. A reward function
   * may call it, and must not wait for it: the step waits for the function.
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
   * Ends the run after the current step. It saves as at a regular end; the reason of its end event is `'stopped'`. PPO,
   * GRPO and RLOO drop an iteration whose rollout or rewards are incomplete; a resume repeats it.
   */
  stop(): void {
    this.#stop.abort()
  }

  /**
   * Ends the run as a `break` does, for `await using run = sft(...)`: after the last complete step, without saving. Does
   * nothing after the end of the run.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end()
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
    if (this.#state !== 'ended') {
      // At once: a pull may be waiting for a reward function, or be in one.
      this.#control.left = true
      this.#stop.abort()
    }
    return this.#enqueue(async () => {
      if (this.#state === 'ended') return
      this.#last = this.#control.summary?.('stopped') ?? null
      this.#close()
      // The recipe is between two steps: its `finally` blocks run, and it yields no further event.
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
