import type { Template } from '../../data/text/template.js'
import type { Model } from '../../models/model.js'
import { type Fingerprint, refuseOtherModels } from '../roles/fingerprint.js'
import { saveResult } from '../roles/save-result.js'
import { refuseOtherAdapter } from '../roles/training-lock.js'
import {
  checkpointPath,
  checkpointState,
  hasCheckpoint,
  loadCheckpoint,
  newestCheckpoint,
  type Parts,
  saveCheckpoint,
} from './checkpoint.js'
import { runConfig } from './config.js'
import { differences, type Environment, environmentOf, hasSameBits } from './environment.js'
import type { CheckpointEvent, EndEvent, StartEvent, WarningEvent } from './events.js'
import { RunFolder } from './folder.js'
import { countParameters } from './parameters.js'
import { type RunControl, throwIfAborted } from './run.js'

/** State of any run between two steps, besides weights and optimizer state; part of each checkpoint. */
export interface SessionState extends Fingerprint {
  /** Optimizer steps, or iterations, done. */
  step: number
  /** Steps whose events have all been emitted. */
  settled: number
  /** Steps of the whole run, which the learning rate schedule depends on. */
  totalSteps: number
  environment: Environment | null
}

/** Everything that a session needs to know of its run. */
export interface SessionPlan<State extends SessionState> {
  recipe: string
  model: Model
  control: RunControl
  options: {
    output?: string | undefined
    resume: boolean
    overwrite: boolean
    checkpoints?: { keep: number } | undefined
    saveDtype?: 'float32' | 'bfloat16' | 'float16' | undefined
    signal?: AbortSignal | undefined
  }
  /** Options for config.json, with values that the recipe resolved. */
  config: Record<string, unknown>
  /** Options that only set the length of the run: a resume may change them. */
  lengthOptions: readonly string[]
  /** Content hashes of the data for config.json. */
  data: Record<string, string>
  /** Tensor files of a checkpoint; the first has the weights of `model`. */
  parts: Parts
  /** State before the first step. */
  beginning: State
  /** Template of the prompts, saved with a model that has none; null for plain text. */
  template: Template | null
  /** Fields of the end event for a state. */
  progress(state: State): Pick<EndEvent, 'epochs' | 'loss' | 'bestLoss' | 'bestStep'>
  /** Step whose weights are the result and whose checkpoint is kept; null for the last one. */
  bestStep?(state: State): number | null
  /** Pad token for RewardModel.save(). */
  padToken?: string | undefined
  /** Saves other trained models, such as the critic. */
  saveOthers?(folder: RunFolder): Promise<void>
}

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
  /** Differences between a resumed run and the interrupted one. */
  #differences: string[] = []
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
    const { resume, overwrite } = options
    const mode = { resume, overwrite, lengthOptions: plan.lengthOptions }
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
      const checkpoint = await newestCheckpoint(this.folder.checkpoints)
      if (checkpoint) {
        const before = (await checkpointState(checkpoint)) as State
        refuseOtherModels(before, fingerprint, hasSameBits(before.environment, environment))
        this.state = (await loadCheckpoint(checkpoint, parts)) as State
        this.#noteSaved()
        this.#differences = differences(before, { totalSteps, environment })
      }
      await this.folder.rewindMetrics(this.state)
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
  async *start<Report>(
    given: Pick<StartEvent<Report>, 'epochs' | 'report' | 'validationReport'>,
  ): AsyncGenerator<StartEvent<Report> | WarningEvent, void> {
    const { model, template, control } = this.#plan
    const { epochs, ...reports } = given
    if (template) model.adoptTemplate(template)
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
    for (const message of this.#differences) yield await this.warn({ code: 'resumeDiffers', message })
  }

  /** Writes an event to metrics.jsonl and returns it. */
  async note<Event extends object>(event: Event): Promise<Event> {
    await this.folder?.appendMetrics(event)
    return event
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

  /** Writes a checkpoint; needs a run folder. */
  async checkpoint(): Promise<CheckpointEvent> {
    return await this.note({ type: 'checkpoint', step: this.state.step, path: await this.save() })
  }

  /** Writes a checkpoint and returns its path; needs a run folder. */
  async save(): Promise<string> {
    const { model, parts, options } = this.#plan
    refuseOtherAdapter(model, this.#adapter)
    const path = await saveCheckpoint(
      this.folder!.checkpoints,
      { parts, step: this.state.step, state: this.state },
      { keep: options.checkpoints?.keep ?? 2, keepStep: this.#bestStep() },
    )
    this.#noteSaved()
    return path
  }

  /** Writes the last checkpoint and the result, and emits the end event. */
  async *finish(reason: EndEvent['reason']): AsyncGenerator<CheckpointEvent, EndEvent> {
    const { model, options, parts, padToken, saveOthers } = this.#plan
    const { folder } = this
    throwIfAborted(options.signal)
    if (folder) {
      if (this.#savedAt !== this.state.step) yield await this.checkpoint()
      const best = this.#bestStep()
      if (best !== null && best !== this.state.step) {
        const [weights] = Object.entries(parts)
        await loadCheckpoint(checkpointPath(folder.checkpoints, best), Object.fromEntries([weights!]))
      }
      refuseOtherAdapter(model, this.#adapter)
      await saveResult(model, folder, { dtype: options.saveDtype, padToken })
      await saveOthers?.(folder)
    }
    return await this.note(this.#summary(reason))
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
        output: folder.path,
        model: this.#adapter === null ? folder.model : folder.adapter,
        modelStep: this.#bestStep() ?? state.step,
      }),
    }
  }

  #bestStep(): number | null {
    return this.#plan.bestStep?.(this.state) ?? null
  }

  #noteSaved(): void {
    if (this.state.settled === this.state.step) this.#savedAt = this.state.step
  }
}
