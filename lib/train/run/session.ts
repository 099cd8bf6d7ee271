import type { Template } from '../../data/text/template.js'
import type { Model } from '../../models/model.js'
import { type Fingerprint, refuseOtherModels } from '../roles/fingerprint.js'
import { saveResult } from '../roles/save-result.js'
import { refuseOtherAdapter } from '../roles/training-lock.js'
import {
  checkpointPath,
  checkpointState,
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

/** What a run of every kind knows between two steps, besides weights and moments; each checkpoint saves it. */
export interface SessionState extends Fingerprint {
  /** Optimizer steps, or iterations, done. */
  step: number
  /** Steps of which all events have been told. */
  settled: number
  /** Steps of the whole run: the learning rate follows it. */
  totalSteps: number
  environment: Environment | null
}

/** What a loop tells its session. */
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
  /** For config.json: the options, with what the recipe chose besides. */
  config: Record<string, unknown>
  /** Names of the options that decide the length of the run alone: a resume may change them. */
  lengthOptions: readonly string[]
  /** For config.json: content hashes of the data. */
  data: Record<string, string>
  /** The files of a checkpoint; the first one is the weights of `model`. */
  parts: Parts
  /** The state before the first step. */
  beginning: State
  /** How prompts are put to the model, which is saved with a model that had none; null for plain text. */
  template: Template | null
  /** What the end event says of a state. */
  progress(state: State): Pick<EndEvent, 'epochs' | 'loss' | 'bestLoss' | 'bestStep'>
  /** The step whose weights are the result, and whose checkpoint is kept; null for the last one. */
  bestStep?(state: State): number | null
  /** Of a reward model: what RewardModel.save() is given. */
  padToken?: string | undefined
  /** Saves what was trained beside the model. */
  saveOthers?(folder: RunFolder): Promise<void>
}

/**
 * One run from its folder to the saved model, the same for every recipe: config.json and metrics.jsonl, checkpoints and
 * their rotation, resume, the start event and the end event. What happens in a step is the loop's.
 */
export class Session<State extends SessionState> implements AsyncDisposable {
  state: State
  /** Null for a run without `output`. */
  readonly folder: RunFolder | null
  readonly #plan: SessionPlan<State>
  readonly #environment: Environment
  /** The adapter that is trained. */
  readonly #adapter: string | null
  readonly #startedAt = performance.now()
  /** In what a resumed run differs from the one before. */
  #differences: string[] = []
  /** The step of the newest checkpoint with nothing left to tell. */
  #savedAt = -1

  private constructor(plan: SessionPlan<State>, folder: RunFolder | null, environment: Environment) {
    this.#plan = plan
    this.folder = folder
    this.#environment = environment
    this.#adapter = plan.model.adapter
    this.state = { ...plan.beginning, environment }
  }

  /** Takes the run folder. Dispose the session to release it. */
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
   * Goes on from the newest checkpoint where `resume` asks for it. Throws ERR_INVALID_ARGUMENT, before a weight is
   * changed, where the models that are not trained differ from those of the checkpoint by their fingerprint.
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

  /** Tells that the run starts. From here on it can be saved, and left with a summary. */
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

  /** Writes an event to metrics.jsonl on its way to the consumer. */
  async note<Event extends object>(event: Event): Promise<Event> {
    await this.folder?.appendMetrics(event)
    return event
  }

  async warn(warning: Pick<WarningEvent, 'code' | 'message'>): Promise<WarningEvent> {
    return await this.note({ type: 'warning', step: this.state.step, ...warning })
  }

  /** Before each step: throws after an abort, and where what is trained is not in use. */
  check(): void {
    const { model, options } = this.#plan
    throwIfAborted(options.signal)
    refuseOtherAdapter(model, this.#adapter)
  }

  /** Writes a checkpoint of a run with a folder. */
  async checkpoint(): Promise<CheckpointEvent> {
    return await this.note({ type: 'checkpoint', step: this.state.step, path: await this.save() })
  }

  /** Writes a checkpoint of a run with a folder and gives its path. */
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

  /** Writes the last checkpoint and the result, and tells the end. */
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
