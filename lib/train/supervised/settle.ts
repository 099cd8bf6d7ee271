import { encodePrompt, type Loader, type Batch as Tokens } from '../../data/index.js'
import { AbortError } from '../../errors.js'
import { generate } from '../../generate/generate.js'
import { CausalLM } from '../../models/causal-lm.js'
import type { EvaluationBase, SampleEvent, StepBase, TrainEvent, WarningEvent } from '../run/events.js'
import type { Session } from '../run/session.js'
import { SupervisedWatch } from '../run/warnings.js'
import { afterEvaluation } from './early-stopping.js'
import { evaluate } from './evaluate.js'
import type { TrainBatch } from './objective.js'
import type { TrainingState } from './state.js'
import type { SupervisedTraining } from './training.js'

/**
 * Emits what follows a step: epoch event, evaluation, samples and checkpoint, each when due. After `stop` it ends at once,
 * so that the run saves first; a resume does what is left.
 */
export async function* settle<
  Batch extends TrainBatch & Tokens,
  Step extends StepBase,
  Evaluation extends EvaluationBase,
>(
  training: SupervisedTraining<Batch, Step, Evaluation>,
  session: Session<TrainingState>,
  stop: AbortSignal,
): AsyncGenerator<TrainEvent<Step, Evaluation>, void> {
  if (stop.aborted) return
  const { options, validation } = training
  const signal = options.signal ? AbortSignal.any([options.signal, stop]) : stop
  const { state } = session
  const { step } = state
  const endsEpoch = state.cursor.batch === 0
  const due = (every: number | undefined) =>
    (every === undefined ? endsEpoch : step % every === 0) || step === state.totalSteps
  // The state changes once, at the end, so that a resume from a save() in between repeats all of it.
  const settled: TrainingState = { ...state, settled: step }
  if (endsEpoch) {
    const loss = state.epochWeight === 0 ? 0 : state.epochLoss / state.epochWeight
    yield await session.note({ type: 'epoch', step, epoch: state.cursor.epoch, loss })
    settled.epochLoss = 0
    settled.epochWeight = 0
  }
  const evaluates = validation && due(options.evaluation?.everySteps)
  let isBest = false
  try {
    session.enter('evaluating')
    if (evaluates) isBest = yield* evaluated(training, validation, session, settled, signal)
    session.enter('sampling')
    if (options.samples && due(options.samples.everySteps)) yield* samples(training, session, signal)
  } catch (error) {
    if (error instanceof AbortError && stop.aborted && !options.signal?.aborted) return
    throw error
  } finally {
    session.enter('training')
  }
  if (stop.aborted) return
  session.state = settled
  // After a failed step the weights may be corrupt: their checkpoints must not rotate out sound ones.
  const isSound = state.skippedInARow === 0
  const keepsBest = isBest && options.keep === 'best'
  if (session.folder && isSound && (keepsBest || due(options.checkpoints?.everySteps)))
    yield* session.checkpoint()
  // The end of the run saves those of the last step once more.
  if (session.folder && keepsBest && !session.isSaved && step < state.totalSteps) {
    session.state = { ...session.state, evaluations: { ...state.evaluations, withoutGain: 0 } }
    yield await session.warn({
      code: 'checkpointFailed',
      message: `The weights of step ${step}, the best so far by validation loss, are in no checkpoint: the best is taken from those of other steps`,
    })
  }
  yield* session.folderWarnings()
}

/** Evaluates and adds the result to `settled`; returns whether it is the best so far. */
async function* evaluated<
  Batch extends TrainBatch & Tokens,
  Step extends StepBase,
  Evaluation extends EvaluationBase,
>(
  { objective, options }: SupervisedTraining<Batch, Step, Evaluation>,
  validation: Loader<Batch>,
  session: Session<TrainingState>,
  settled: TrainingState,
  signal: AbortSignal,
): AsyncGenerator<Evaluation | WarningEvent, boolean> {
  const { step, position: epoch } = session.state
  const result = await evaluate(objective, validation, { signal })
  const minDelta = options.earlyStopping?.minDelta ?? 0
  settled.evaluations = afterEvaluation(settled.evaluations, { step, loss: result.loss }, minDelta)
  const best = settled.evaluations.bestStep === step
  const event = { type: 'evaluation', step, epoch, ...result, best } as unknown as Evaluation
  const watch = new SupervisedWatch(settled.watch)
  const warnings = watch.evaluation(event)
  settled.watch = watch.state
  yield await session.note(event)
  for (const warning of warnings) yield await session.note(warning)
  return best
}

/** Completions of the prompts of `samples` by the current model. */
async function* samples(
  {
    model,
    options,
    sampling: form,
  }: Pick<SupervisedTraining<never, never, never>, 'model' | 'options' | 'sampling'>,
  session: Session<TrainingState>,
  signal: AbortSignal,
): AsyncGenerator<SampleEvent, void> {
  if (!options.samples || form === undefined || !(model instanceof CausalLM)) return
  const { tokenizer } = model
  const { prompts, maxNewTokens, temperature } = options.samples
  const completions = await generate(
    model,
    prompts.map((text) => encodePrompt({ text }, { tokenizer, ...form }).promptIds),
    {
      maxNewTokens,
      temperature,
      ...(temperature > 0 && { seed: options.seed }),
      signal,
    },
  )
  const { step } = session.state
  for (const [i, { text, finishReason }] of completions.entries()) {
    yield await session.note({ type: 'sample' as const, step, prompt: prompts[i]!, text, finishReason })
  }
}
