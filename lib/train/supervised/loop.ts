import type { Batch as Tokens } from '../../data/index.js'
import { learningRateAt } from '../../optim/schedule.js'
import { hash32, STREAM } from '../../random.js'
import type { TrainingOptions } from '../options/fields.js'
import { noEffectOnAdapter } from '../roles/adapter.js'
import { supervisedFingerprint } from '../roles/fingerprint.js'
import { recipeOptimizer } from '../roles/optimizer.js'
import { lockForTraining } from '../roles/training-lock.js'
import { partsOf } from '../run/checkpoint.js'
import type { EndEvent, EvaluationBase, StepBase, TrainEvent, WarningEvent } from '../run/events.js'
import type { RunControl } from '../run/run.js'
import { Session } from '../run/session.js'
import { SupervisedWatch } from '../run/warnings.js'
import { NO_EVALUATION } from './early-stopping.js'
import type { TrainBatch } from './objective.js'
import { prefetch } from './prefetch.js'
import { settle } from './settle.js'
import {
  afterStep,
  BEGINNING,
  notFinite,
  rowsOf,
  stepBase,
  type TrainingState,
  trainingFault,
} from './state.js'
import { type StepData, type StepOutcome, supervisedStep } from './step.js'
import { countSteps, isCursorOf, optimizerSteps } from './steps.js'
import type { SupervisedTraining } from './training.js'

/** The training loop of supervised recipes, from the run folder to the saved model. */
export async function* superviseTraining<
  Batch extends TrainBatch & Tokens,
  Step extends StepBase,
  Evaluation extends EvaluationBase,
>(
  training: SupervisedTraining<Batch, Step, Evaluation>,
  control: RunControl,
): AsyncGenerator<TrainEvent<Step, Evaluation>, EndEvent> {
  const { recipe, model, options, objective, train, validation } = training
  const { gradientAccumulation: accumulation } = options
  if (options.saveDtype !== undefined && model.adapter !== null)
    throw noEffectOnAdapter(recipe, 'saveDtype', model)
  using _lock = lockForTraining(model)
  await using optimizer = recipeOptimizer(model, options)
  const { totalSteps, epochs } = lengthOf(train, options)
  await using session = await Session.open<TrainingState>({
    ...training,
    control,
    config: { ...options, ...training.choices },
    lengthOptions: ['epochs', 'maxSteps'],
    data: { data: train.hash, ...(validation && { validation: validation.hash }) },
    parts: partsOf(model, optimizer),
    beginning: { ...BEGINNING, totalSteps },
    faultOf: (state, step) =>
      trainingFault(state, step, (...at) => isCursorOf(...at, train, options.gradientAccumulation)),
    progress: ({ position, lastLoss, evaluations: { bestLoss, bestStep } }) => ({
      epochs: position,
      loss: lastLoss,
      ...(bestLoss !== null && bestStep !== null && { bestLoss, bestStep }),
    }),
    bestStep: ({ evaluations }) => (options.keep === 'best' ? evaluations.bestStep : null),
  })
  if (training.begin) control.phase = 'reference'
  await session.resume(await supervisedFingerprint(model, (await training.begin?.()) ?? null, train))
  const lostBest = await session.lostBest()
  if (lostBest !== null) session.state = { ...session.state, evaluations: NO_EVALUATION }
  yield* session.start({
    epochs,
    report: train.report,
    ...(validation && { validationReport: validation.report }),
  })
  if (lostBest !== null) yield await session.warn({ code: 'resumeDiffers', message: withoutBest(lostBest) })
  for (const warning of training.warnings ?? []) yield await session.warn(warning)

  const isCutShort = () => control.stop.aborted && session.state.settled < session.state.step
  const reasonToEnd = () =>
    (isCutShort() ? null : endOf(session.state, options)) ?? (control.stop.aborted ? 'stopped' : null)
  if (session.state.settled < session.state.step) yield* settle(training, session, control.stop)
  const steps = prefetch(optimizerSteps(train, { from: session.state.cursor, accumulation }))
  for await (const data of reasonToEnd() ? [] : steps) {
    session.check()
    const { step } = session.state
    const outcome = await supervisedStep(objective, optimizer, data, {
      ...options,
      learningRate: learningRateAt(step, { ...options, totalSteps }),
      ...(training.dropout && { dropoutSeed: (i) => dropoutSeed(options.seed, step, i) }),
    })
    yield* stepped(session, data, outcome, objective.stepMetrics(outcome.sums))
    if (session.state.skippedInARow >= options.maxSkippedSteps) throw notFinite(session.state, data, outcome)
    yield* settle(training, session, control.stop)
    if (reasonToEnd()) break
  }
  return yield* session.finish(reasonToEnd() ?? 'stopped')
}

const withoutBest = (step: number) =>
  `The weights of step ${step}, the best so far by validation loss, are missing from the run folder or damaged: the search for the best step starts over`

/** Length of a run: its epochs, or as many as `maxSteps` needs. */
function lengthOf(
  train: Parameters<typeof countSteps>[0],
  { maxSteps, epochs, gradientAccumulation }: TrainingOptions,
): { totalSteps: number; epochs: number } {
  if (maxSteps === undefined) return { totalSteps: countSteps(train, epochs, gradientAccumulation), epochs }
  return { totalSteps: maxSteps, epochs: Math.ceil(maxSteps / countSteps(train, 1, gradientAccumulation)) }
}

/** Why a run ends in this state; null if it continues. */
function endOf(state: TrainingState, { earlyStopping }: TrainingOptions): EndEvent['reason'] | null {
  const patience = earlyStopping ? (earlyStopping.patience ?? 3) : Number.POSITIVE_INFINITY
  if (state.evaluations.withoutGain >= patience) return 'earlyStopping'
  return state.step >= state.totalSteps ? 'completed' : null
}

/** Adds a step to the state and emits its event and warnings. */
async function* stepped<Batch extends TrainBatch, Step extends StepBase>(
  session: Session<TrainingState>,
  data: StepData<Batch>,
  outcome: StepOutcome,
  metrics: Omit<Step, keyof StepBase>,
): AsyncGenerator<Step | WarningEvent, void> {
  const state = afterStep(session.state, data, outcome)
  const event = { ...stepBase(state, data, outcome), ...metrics } as Step
  const watch = new SupervisedWatch(state.watch)
  const warnings = watch.step(event, state.totalSteps)
  session.state = { ...state, watch: watch.state }
  yield await session.note(event)
  for (const warning of warnings) yield await session.note(warning)
  if (outcome.skipped !== 'noLabels') return
  const rows = rowsOf(data).join(', ')
  const message = `Step ${state.step} has no labels (rows ${rows}) and changed nothing`
  yield await session.warn({ code: 'noLabels', message })
}

/** Seed of LoRA dropout in a batch; never 0, which means no dropout. */
function dropoutSeed(seed: number, step: number, batch: number): number {
  return hash32(seed, STREAM.dropout + batch, step) + 1
}
