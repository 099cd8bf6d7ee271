import { PosttrainError, throwIfAborted } from '../../errors.js'
import { exchangeOf } from '../../models/save.js'
import { type Fingerprint, refuseOtherModels } from '../roles/fingerprint.js'
import { saveResult } from '../roles/save-result.js'
import { refuseOtherAdapter } from '../roles/training-lock.js'
import {
  checkpointPath,
  hasCheckpoint,
  loadCheckpoint,
  newestCheckpoint,
  passedOver,
  rotateCheckpoints,
  saveCheckpoint,
} from './checkpoint.js'
import { runConfig } from './config.js'
import { differences, type Environment, environmentOf, hasSameBits } from './environment.js'
import type { CheckpointEvent, EndEvent, StartEvent, WarningEvent } from './events.js'
import { RunFolder } from './folder.js'
import { countParameters } from './parameters.js'
import type { SessionPlan } from './plan.js'
import type { RunPhase } from './run.js'
import type { SessionState } from './state.js'
import { unreadMarks } from './warnings.js'

/** Checkpoints in a row that may fail before the run ends. */
const MAX_FAILED_CHECKPOINTS = 3

/**
 * Lifecycle of a run, shared by all recipes: config.json and metrics.jsonl, checkpoints and their rotation, resume, start
 * event, end event and the saved model. The loops do the steps.
 */
export class Session<State extends SessionState> implements AsyncDisposable {
  state: State
  /** Null for a run without `output`. */
  readonly folder: RunFolder | null
  readonly #plan: SessionPlan<State>
  readonly #environment: Environment
  /** The trained adapter; null if all weights are trained. */
  readonly #adapter: string | null
  readonly #startedAt = performance.now()
  /** Warnings for after the start event: differences to the interrupted run, damaged checkpoints. */
  readonly #found: Pick<WarningEvent, 'code' | 'message'>[] = []
  /** Damaged checkpoints, removed when a sound one is saved. */
  #damaged: number[] = []
  #failedInARow = 0
  /** Why the last checkpoint was not saved; null if it was. */
  #failure: PosttrainError | null = null
  #metricsFailed = false
  /** Removed files of the run folder that were written again. */
  #restored: string[] = []
  /** Step of the newest checkpoint after all events of that step. */
  #savedAt = -1

  private constructor(plan: SessionPlan<State>, folder: RunFolder | null, environment: Environment) {
    this.#plan = plan
    this.folder = folder
    this.#environment = environment
    this.#adapter = plan.model.adapter
    this.state = { ...plan.beginning, environment }
  }

  /** Opens and locks the run folder; disposing the session unlocks it. */
  static async open<State extends SessionState>(plan: SessionPlan<State>): Promise<Session<State>> {
    const { recipe, model, options } = plan
    const environment = await environmentOf(model)
    const folder = options.output === undefined ? null : new RunFolder(options.output)
    const { resume, overwrite, takeLock } = options
    const mode = { resume, overwrite, takeLock, lengthOptions: plan.lengthOptions }
    await folder?.open(runConfig(recipe, model, plan.config, plan.data), mode)
    return new Session(plan, folder, environment)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#plan.control.save = null
    await this.folder?.close()
  }

  /**
   * Loads the newest checkpoint with option `resume`. Throws ERR_INVALID_ARGUMENT, before any weight changes, if the
   * fingerprint of the frozen models differs from that of the checkpoint.
   */
  async resume(fingerprint: Fingerprint): Promise<void> {
    const { options, parts } = this.#plan
    const { totalSteps } = this.state
    const environment = this.#environment
    if (this.folder && options.resume) {
      const found = await newestCheckpoint(this.folder.checkpoints, this.#plan.faultOf)
      if (found) {
        const before = found.state as State
        refuseOtherModels(before, fingerprint, hasSameBits(before.environment, environment))
        await loadCheckpoint(found.path, parts, 'unread')
        this.state = before
        this.#noteSaved()
        this.#damaged = found.damaged.map(({ step }) => step)
        if (this.#damaged.length > 0)
          this.#found.push(passedOver({ ...found, path: this.folder.shown(found.path) }, before.step))
        for (const message of differences(before, { totalSteps, environment }))
          this.#found.push({ code: 'resumeDiffers', message })
      }
      const { step } = this.state
      await this.folder.metrics.rewind(
        this.state,
        found ? { type: 'checkpoint', step, path: this.folder.shown(found.path) } : undefined,
      )
    }
    this.state = { ...this.state, totalSteps, environment, ...fingerprint }
  }

  /**
   * Best step whose checkpoint is not there, because the run before the resume kept the last weights; null otherwise.
   */
  async lostBest(): Promise<number | null> {
    const best = this.#bestStep()
    if (!this.folder || best === null || best === this.state.step) return null
    return (await hasCheckpoint(this.folder.checkpoints, best)) ? null : best
  }

  /** Emits the start event and enables save() and the summary of an early end. */
  async *start<Report extends { specialMarks: number }>(
    given: Pick<StartEvent<Report>, 'epochs' | 'report' | 'validationReport'>,
  ): AsyncGenerator<StartEvent<Report> | WarningEvent, void> {
    const { model, template, control } = this.#plan
    const { epochs, ...reports } = given
    if (template) model.adoptTemplate(template)
    this.enter('training')
    control.save = this.folder && (() => this.save())
    control.summary = (reason) => this.#summary(reason)
    const parameters = await countParameters(model)
    yield await this.note({
      type: 'start',
      step: this.state.step,
      totalSteps: this.state.totalSteps,
      epochs,
      parameters: parameters.all,
      trainableParameters: parameters.trainable,
      ...reports,
    })
    if (this.state.step === 0 && given.report.specialMarks > 0)
      yield await this.warn({ code: 'specialMarks', message: unreadMarks(given.report.specialMarks) })
    for (const warning of this.#found) yield await this.warn(warning)
  }

  /** Tells a display what the run does now. */
  enter(phase: RunPhase): void {
    this.#plan.control.phase = phase
  }

  /** Writes an event to metrics.jsonl and returns it. */
  async note<Event extends object>(event: Event): Promise<Event> {
    await this.folder?.metrics.append(event)
    return event
  }

  /** Warnings on the run folder: files that were removed, and metrics.jsonl if it cannot be written, once until it can. */
  async *folderWarnings(): AsyncGenerator<WarningEvent, void> {
    const restored = this.#restored.splice(0)
    if (restored.length > 0)
      yield await this.warn({
        code: 'filesRemoved',
        message: `${restored.join(' and ')} of the run folder had been removed: the run wrote what a resume needs again`,
      })
    const failure = this.folder?.metrics.failure ?? null
    if (failure !== null && !this.#metricsFailed)
      yield await this.warn({
        code: 'metricsFailed',
        message: `${failure.message}; the run goes on, and its events are kept until they can be written`,
      })
    this.#metricsFailed = failure !== null
  }

  async warn(warning: Pick<WarningEvent, 'code' | 'message'>): Promise<WarningEvent> {
    return await this.note({ type: 'warning', step: this.state.step, ...warning })
  }

  /** Throws after an abort, and if the trained weights are not in use; called before each step. */
  check(): void {
    const { model, options } = this.#plan
    throwIfAborted(options.signal)
    refuseOtherAdapter(model, this.#adapter)
  }

  /**
   * Writes a checkpoint; needs a run folder. One that fails is a warning: the run goes on and tries again at the next.
   * Throws ERR_IO when the third in a row fails.
   */
  async *checkpoint(): AsyncGenerator<CheckpointEvent | WarningEvent, void> {
    const { step } = this.state
    this.enter('saving')
    try {
      yield await this.note({ type: 'checkpoint' as const, step, path: await this.save() })
      this.#failedInARow = 0
      this.#failure = null
    } catch (error) {
      if (!(error instanceof PosttrainError) || error.code !== 'ERR_IO') throw error
      this.#failure = error
      if (++this.#failedInARow >= MAX_FAILED_CHECKPOINTS) throw failedTooOften(error)
      yield await this.warn({
        code: 'checkpointFailed',
        message: `The checkpoint of step ${step} was not saved (${error.message}); those before it are whole, and the run goes on and tries again at the next one`,
      })
    }
    this.enter('training')
  }

  /** Writes a checkpoint, removes old ones, and returns its path; needs a run folder. */
  async save(): Promise<string> {
    const { model, parts } = this.#plan
    const { step } = this.state
    refuseOtherAdapter(model, this.#adapter)
    this.#restored.push(...(await this.folder!.restore()))
    const what = { parts, step, state: this.state }
    const path = await saveCheckpoint(this.folder!.checkpoints, what, exchangeOf(model.role.core))
    this.#noteSaved()
    this.#damaged = this.#damaged.filter((damaged) => damaged !== step)
    await this.#rotate()
    this.#damaged = []
    return this.folder!.shown(path)
  }

  async #rotate(): Promise<void> {
    const keep = this.#plan.options.checkpoints?.keep ?? 2
    const kept = { keep, keepStep: this.#bestStep(), damaged: this.#damaged }
    await rotateCheckpoints(this.folder!.checkpoints, kept)
  }

  /** Writes the last checkpoint and the result, and emits the end event. */
  async *finish(reason: EndEvent['reason']): AsyncGenerator<CheckpointEvent | WarningEvent, EndEvent> {
    const { model, options, parts, padToken, saveOthers } = this.#plan
    const { folder } = this
    throwIfAborted(options.signal)
    if (this.#plan.control.left) return this.#summary('stopped')
    if (folder) {
      if (!this.isSaved) yield* this.checkpoint()
      // A kill may have come between the last checkpoint and the removal of an old one, which harms nothing.
      else if (this.#damaged.length === 0) await this.#rotate().catch(() => undefined)
      this.enter('saving')
      const best = this.#bestStep()
      if (best !== null && best !== this.state.step) {
        const [weights] = Object.entries(parts)
        await loadCheckpoint(checkpointPath(folder.checkpoints, best), Object.fromEntries([weights!]))
      }
      refuseOtherAdapter(model, this.#adapter)
      try {
        await saveResult(model, folder, { dtype: options.saveDtype, padToken })
        await saveOthers?.(folder)
      } catch (error) {
        throw this.#failure ? error : resumable(error, this.state.step)
      }
      // A run that was stopped is meant to go on.
      if (this.#failure && reason === 'stopped') throw this.#failure
    }
    const end = await this.note(this.#summary(reason))
    if (folder?.metrics.failure) throw folder.metrics.failure
    return end
  }

  #summary(reason: EndEvent['reason']): EndEvent {
    const { folder, state } = this
    return {
      type: 'end',
      reason,
      steps: state.step,
      ...this.#plan.progress(state),
      seconds: (performance.now() - this.#startedAt) / 1000,
      ...(folder && {
        output: folder.shown(folder.path),
        model: folder.shown(this.#adapter === null ? folder.model : folder.adapter),
        modelStep: this.#bestStep() ?? state.step,
      }),
    }
  }

  #bestStep(): number | null {
    return this.#plan.bestStep?.(this.state) ?? null
  }

  /** Whether a checkpoint has the state as it is. */
  get isSaved(): boolean {
    return this.#savedAt === this.state.step
  }

  #noteSaved(): void {
    if (this.state.settled === this.state.step) this.#savedAt = this.state.step
  }
}

/** The failure to save the result, whose weights are in the checkpoint. */
function resumable(error: unknown, step: number): unknown {
  if (!(error instanceof PosttrainError) || error.code !== 'ERR_IO') return error
  const message = `The result was not saved: ${error.message}; the checkpoint of step ${step} has its weights, resume the run to save it`
  return new PosttrainError('ERR_IO', message, { cause: error })
}

const failedTooOften = (cause: PosttrainError) =>
  new PosttrainError(
    'ERR_IO',
    `The run ends, because ${MAX_FAILED_CHECKPOINTS} checkpoints in a row could not be saved: ${cause.message}; make room or choose another disk, and resume it`,
    { cause },
  )
