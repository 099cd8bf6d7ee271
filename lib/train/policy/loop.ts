import type { PromptReport } from '../../data/index.js'
import { PosttrainError } from '../../errors.js'
import { policyFingerprint } from '../roles/fingerprint.js'
import type { EndEvent, PolicyStepEvent, SampleEvent, TrainEvent, WarningEvent } from '../run/events.js'
import type { RunControl } from '../run/run.js'
import { Session } from '../run/session.js'
import { drawUnlessStopped, learnFrom, watchOf } from './iteration.js'
import { beginning, type PolicyState, policyFault } from './state.js'
import type { PolicyTraining } from './training.js'
import type { Learned } from './update.js'

/** The loop of PPO, GRPO and RLOO: rollouts and updates, from the run folder to the saved model. */
export async function* trainPolicy<Step extends PolicyStepEvent>(
  training: PolicyTraining<Step>,
  control: RunControl,
): AsyncGenerator<TrainEvent<Step, never, PromptReport>, EndEvent> {
  const { model, options, prompts, sources } = training
  const perPass = prompts.items.length
  const totalSteps = options.iterations ?? Math.max(1, Math.ceil(perPass / options.batchSize))
  await using session = await Session.open<PolicyState>({
    ...training,
    control,
    config: { ...training.config, reward: sources.map(({ name, weight }) => ({ name, weight })) },
    // `epochs` here are passes over a rollout, which change the numbers.
    lengthOptions: ['iterations'],
    data: { data: prompts.hash },
    beginning: beginning({ klCoef: training.klCoef.start, totalSteps }),
    faultOf: (state, step) => policyFault(state, step, options.batchSize),
    progress: ({ taken, lastLoss }) => ({ epochs: taken / perPass, loss: lastLoss }),
  })
  await session.resume(await policyFingerprint(model, training.reference, sources, prompts.items))
  yield* session.start({ epochs: (totalSteps * options.batchSize) / perPass, report: prompts.report })
  for (const warning of watchOf(training, session.state).begin(session.state.step))
    yield await session.note(warning)
  yield* emitPending(session)

  const reasonToEnd = () => endOf(session.state) ?? (control.stop.aborted ? 'stopped' : null)
  while (reasonToEnd() === null) {
    session.check()
    const drawn = await drawUnlessStopped(training, session.state, control)
    if (drawn === null) break
    const { event, state, failed } = await learnFrom(drawn, training, session.state)
    session.state = state
    yield await session.note(event)
    yield* emitPending(session)
    if (state.skippedInARow >= options.maxSkippedSteps) throw notFinite(state, failed)
    const due = state.skippedInARow === 0 && state.step % (options.checkpoints?.everySteps ?? 10) === 0
    if (session.folder && due) yield* session.checkpoint()
    yield* session.folderWarnings()
  }
  return yield* session.finish(reasonToEnd() ?? 'stopped')
}

/** Why a run ends in this state; null if it continues. */
function endOf(state: PolicyState): EndEvent['reason'] | null {
  if (state.overLimit) return 'klLimit'
  return state.step >= state.totalSteps ? 'completed' : null
}

/** Emits the pending events of an iteration; after a save() in between, the resume emits all of them again. */
async function* emitPending(session: Session<PolicyState>): AsyncGenerator<WarningEvent | SampleEvent, void> {
  for (const event of session.state.pending) yield await session.note(event)
  session.state = { ...session.state, settled: session.state.step, pending: [] }
}

function notFinite({ step, skippedInARow }: PolicyState, failed: Learned['failed']): PosttrainError {
  const what = failed === 'nonFiniteLoss' ? 'loss' : 'gradient'
  return new PosttrainError(
    'ERR_NON_FINITE',
    `Training stopped at iteration ${step}: the ${what} was not finite in ${skippedInARow} iterations in a row; lower the learning rate, or check the rewards`,
  )
}
