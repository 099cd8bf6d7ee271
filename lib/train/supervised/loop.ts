import type { Batch as Tokens } from '../../data/index.js'
import type { Template } from '../../data/text/template.js'
import { PosttrainError } from '../../errors.js'
import { generate } from '../../generate/generate.js'
import { CausalLM } from '../../models/causal-lm.js'
import type { Model } from '../../models/model.js'
import { RewardModel } from '../../models/reward-model.js'
import { AdamW } from '../../optim/adamw.js'
import { learningRateAt } from '../../optim/schedule.js'
import { hash32, STREAM } from '../../random.js'
import type { TrainingOptions } from '../options/fields.js'
import { noEffect } from '../roles/adapter.js'
import { likelihoodWithBase, refuseOtherReference } from '../roles/reference.js'
import { refuseOtherAdapter, takeForTraining } from '../roles/training-lock.js'
import {
  checkpointPath,
  checkpointState,
  loadCheckpoint,
  newestCheckpoint,
  partsOf,
  saveCheckpoint,
} from '../run/checkpoint.js'
import type { EndEvent, EvaluationBase, StepBase, TrainEvent, WarningEvent } from '../run/events.js'
import { RunFolder, runConfig } from '../run/folder.js'
import { type RunControl, throwIfAborted } from '../run/run.js'
import { SupervisedWatch } from '../run/warnings.js'
import { afterEvaluation } from './early-stopping.js'
import { evaluate } from './evaluate.js'
import type { Loader, Objective, TrainBatch } from './objective.js'
import { prefetch } from './prefetch.js'
import {
  afterStep,
  BEGINNING,
  differences,
  notFinite,
  rowsOf,
  stepBase,
  type TrainingState,
} from './state.js'
import { supervisedStep } from './step.js'
import { countSteps, optimizerSteps } from './steps.js'

/** What a recipe has made ready for the loop that all of them share that learn from given rows. */
export interface SupervisedTraining<
  Batch extends TrainBatch & Tokens,
  Step extends StepBase,
  Evaluation extends EvaluationBase,
> {
  recipe: string
  model: Model
  options: TrainingOptions
  objective: Objective<Batch, Step, Evaluation>
  train: Loader<Batch>
  validation: Loader<Batch> | null
  /** How prompts are put to the model, and what is saved with it where it had no template; null for plain text. */
  template: Template | null
  /** Options of the recipe alone that decide its numbers, for config.json. */
  choices: Record<string, unknown>
  /** Of a reward model: what RewardModel.save() is given. */
  padToken?: string | undefined
  /** LoRA dropout is for recipes that compare with no other model. */
  dropout: boolean
  /** What its owner should know of the data before the first step. */
  warnings?: readonly Pick<WarningEvent, 'code' | 'message'>[]
  /**
   * What must be known of the model as it is given: when the run folder is taken, before a weight is read or changed.
   * Mean log-probability of some answers by the reference: a resume with another one is refused; null without one.
   */
  begin?(): Promise<number | null>
}

/** Tokens of a sequence at most; ERR_INVALID_ARGUMENT where the model cannot read that many. */
export function sequenceLength(model: Model, maxLength: number | undefined): number {
  const context = model.contextLength ?? Number.POSITIVE_INFINITY
  if (maxLength === undefined) return Math.min(1024, context)
  if (maxLength <= context) return maxLength
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    `maxLength ${maxLength} is more than the model can read: its context is ${context} tokens`,
  )
}

/** The training loop of supervised recipes, from the run folder to the saved model. */
export async function* superviseTraining<
  Batch extends TrainBatch & Tokens,
  Step extends StepBase,
  Evaluation extends EvaluationBase,
>(
  training: SupervisedTraining<Batch, Step, Evaluation>,
  control: RunControl,
): AsyncGenerator<TrainEvent<Step, Evaluation>, EndEvent> {
  const { model, options, objective, train, validation, template } = training
  const { signal, gradientAccumulation: accumulation } = options
  const startedAt = performance.now()

  // How long: epochs, or as many as the steps need.
  const { maxSteps } = options
  const totalSteps = maxSteps ?? countSteps(train, options.epochs, accumulation)
  const epochs =
    maxSteps === undefined ? options.epochs : Math.ceil(maxSteps / countSteps(train, 1, accumulation))

  if (options.saveDtype !== undefined && model.adapter !== null)
    throw noEffect(training.recipe, 'saveDtype', model)
  using _held = takeForTraining(model)
  const { libtorch, threads } = await model.role.core.info()
  const folder = options.output === undefined ? null : new RunFolder(options.output)
  await folder?.open(
    runConfig(
      training.recipe,
      model,
      { ...options, ...training.choices },
      {
        data: train.hash,
        ...(validation && { validation: validation.hash }),
      },
    ),
    options,
  )
  const optimizer = new AdamW(model, {
    learningRate: options.learningRate,
    beta1: options.beta1,
    beta2: options.beta2,
    eps: options.epsilon,
    weightDecay: options.weightDecay,
    decay: 'matrices',
  })
  const parts = partsOf(model, optimizer)
  const { adapter } = model
  const environment = { libtorch, threads, device: model.device }
  let state: TrainingState = { ...BEGINNING, totalSteps, environment }
  let warnings: string[] = []
  let savedAt = -1

  /** Notes an event in metrics.jsonl on its way to the consumer. */
  async function note<E extends TrainEvent<Step, Evaluation>>(event: E): Promise<E> {
    await folder?.appendMetrics(event)
    return event
  }
  const save = async (run: RunFolder): Promise<string> => {
    refuseOtherAdapter(model, adapter)
    const path = await saveCheckpoint(
      run.checkpoints,
      { parts, step: state.step, state },
      {
        keep: options.checkpoints?.keep ?? 2,
        keepStep: options.earlyStopping ? state.evaluations.bestStep : null,
      },
    )
    if (state.settled === state.step) savedAt = state.step
    return path
  }
  const summary = (reason: EndEvent['reason']): EndEvent => {
    const { bestLoss, bestStep } = state.evaluations
    return {
      type: 'end',
      reason,
      steps: state.step,
      epochs: state.position,
      loss: state.lastLoss,
      ...(bestLoss !== null && bestStep !== null && { bestLoss, bestStep }),
      seconds: (performance.now() - startedAt) / 1000,
      ...(folder && { output: folder.path, model: adapter === null ? folder.model : folder.adapter }),
    }
  }
  const patience = options.earlyStopping ? (options.earlyStopping.patience ?? 3) : Number.POSITIVE_INFINITY
  const over = () =>
    control.stop.aborted || state.step >= totalSteps || state.evaluations.withoutGain >= patience

  try {
    const reference = await likelihoodWithBase(model, (await training.begin?.()) ?? null, train)
    state = { ...state, reference }
    if (folder && options.resume) {
      const checkpoint = await newestCheckpoint(folder.checkpoints)
      if (checkpoint) {
        const before = (await checkpointState(checkpoint)) as TrainingState
        refuseOtherReference(before, { reference, environment })
        state = (await loadCheckpoint(checkpoint, parts)) as TrainingState
        if (state.settled === state.step) savedAt = state.step
        warnings = differences(state, { totalSteps, environment })
        state = { ...state, totalSteps, environment }
      }
      await folder.rewindMetrics(state)
    }
    // Samples stop where its turns end, and it is saved with a model that had none.
    if (template) model.adoptTemplate(template)
    control.save = folder && (() => save(folder))
    control.summary = summary

    const parameters = await model.parameters()
    const size = (of: typeof parameters) =>
      of.reduce((sum, { shape }) => sum + shape.reduce((product, n) => product * n, 1), 0)
    yield await note({
      type: 'start',
      step: state.step,
      totalSteps,
      epochs,
      parameters: size(parameters),
      trainableParameters: size(parameters.filter(({ trainable }) => trainable)),
      report: train.report,
      ...(validation && { validationReport: validation.report }),
    })
    for (const message of warnings)
      yield await note({ type: 'warning', step: state.step, code: 'resumeDiffers', message })
    for (const warning of training.warnings ?? [])
      yield await note({ type: 'warning', step: state.step, ...warning })
    if (state.settled < state.step) yield* settle()
    const steps = prefetch(optimizerSteps(train, { from: state.cursor, accumulation }))
    for await (const data of over() ? [] : steps) {
      throwIfAborted(signal)
      refuseOtherAdapter(model, adapter)
      const { step } = state
      const outcome = await supervisedStep(objective, optimizer, data, {
        ...options,
        learningRate: learningRateAt(step, { ...options, totalSteps }),
        ...(training.dropout && { dropoutSeed: (i) => dropoutSeed(options.seed, step, i) }),
      })
      state = afterStep(state, data, outcome)
      const event = { ...stepBase(state, data, outcome), ...objective.stepMetrics(outcome.sums) } as Step
      const watch = new SupervisedWatch(state.watch)
      const seen = watch.step(event, totalSteps)
      state = { ...state, watch: watch.state }
      yield await note(event)
      for (const warning of seen) yield await note(warning)
      if (outcome.skipped === 'noLabels') {
        yield await note({
          type: 'warning',
          step: state.step,
          code: 'noLabels',
          message: `Step ${state.step} has no label to train on (rows ${rowsOf(data).join(', ')}) and changed nothing`,
        })
      }
      if (state.skippedInARow >= options.maxSkippedSteps) throw notFinite(state, data, outcome)
      yield* settle()
      if (over()) break
    }

    throwIfAborted(signal)
    const reason =
      state.evaluations.withoutGain >= patience
        ? 'earlyStopping'
        : state.step >= totalSteps
          ? 'completed'
          : 'stopped'
    if (folder) {
      if (savedAt !== state.step)
        yield await note({ type: 'checkpoint', step: state.step, path: await save(folder) })
      const { bestStep } = state.evaluations
      if (options.earlyStopping && bestStep !== null && bestStep !== state.step) {
        const [weights] = Object.entries(parts)
        await loadCheckpoint(checkpointPath(folder.checkpoints, bestStep), Object.fromEntries([weights!]))
      }
      refuseOtherAdapter(model, adapter)
      await saveResult(model, folder, options.saveDtype, training.padToken)
    }
    return await note(summary(reason))
  } finally {
    control.save = null
    await optimizer.dispose()
    await folder?.close()
  }

  /** What follows a step: the end of its epoch, evaluation, samples, checkpoint, each when it is due. */
  async function* settle(): AsyncGenerator<TrainEvent<Step, Evaluation>, void> {
    const { step, position } = state
    const endsEpoch = state.cursor.batch === 0
    const due = (every: number | undefined) =>
      (every === undefined ? endsEpoch : step % every === 0) || step === totalSteps
    // All of it enters the state at once, so that a save() in between leaves it to be done by the resume.
    const settled: TrainingState = { ...state, settled: step }
    if (endsEpoch) {
      const loss = state.epochWeight === 0 ? 0 : state.epochLoss / state.epochWeight
      yield await note({ type: 'epoch', step, epoch: state.cursor.epoch, loss })
      settled.epochLoss = 0
      settled.epochWeight = 0
    }
    let best = false
    if (validation && due(options.evaluation?.everySteps)) {
      const evaluation = await evaluate(objective, validation, { signal })
      const minDelta = options.earlyStopping?.minDelta ?? 0
      settled.evaluations = afterEvaluation(state.evaluations, { step, loss: evaluation.loss }, minDelta)
      best = settled.evaluations.bestStep === step
      const event = {
        type: 'evaluation',
        step,
        epoch: position,
        ...evaluation,
        best,
      } as unknown as Evaluation
      const watch = new SupervisedWatch(settled.watch)
      const seen = watch.evaluation(event)
      settled.watch = watch.state
      yield await note(event)
      for (const warning of seen) yield await note(warning)
    }
    if (options.samples && model instanceof CausalLM && due(options.samples.everySteps)) {
      const { prompts, maxNewTokens, temperature } = options.samples
      const completions = await generate(
        model,
        prompts.map((prompt) => template?.prompt({ instruction: prompt }, model.tokenizer) ?? prompt),
        {
          maxNewTokens,
          temperature,
          ...(temperature > 0 && { seed: options.seed }),
          ...(signal && { signal }),
        },
      )
      for (const [i, { text, finishReason }] of completions.entries()) {
        yield await note({ type: 'sample', step, prompt: prompts[i]!, text, finishReason })
      }
    }
    state = settled
    // While steps fail the weights may be spoilt: they must not push sound checkpoints out.
    const sound = state.skippedInARow === 0
    if (folder && sound && ((best && options.earlyStopping) || due(options.checkpoints?.everySteps))) {
      yield await note({ type: 'checkpoint', step, path: await save(folder) })
    }
  }
}

/** Never 0, which means none. */
function dropoutSeed(seed: number, step: number, batch: number): number {
  return hash32(seed, STREAM.dropout + batch, step) + 1
}

/** The plain model folder, or the adapter in use. */
export async function saveResult(
  model: Model,
  folder: Pick<RunFolder, 'model' | 'adapter'>,
  dtype?: 'float32' | 'bfloat16' | 'float16',
  padToken?: string,
): Promise<void> {
  const options = { ...(dtype && { dtype }), overwrite: true }
  if (model.adapter !== null) await model.saveAdapter(folder.adapter, { overwrite: true })
  else if (model instanceof RewardModel && padToken !== undefined)
    await model.save(folder.model, { ...options, padToken })
  else await model.save(folder.model, options)
}
