import { takePrompts } from '../../data/index.js'
import { AbortError, PosttrainError } from '../../errors.js'
import { learningRateAt } from '../../optim/schedule.js'
import { hash32, STREAM } from '../../random.js'
import type { PolicyStepEvent } from '../run/events.js'
import type { RunControl } from '../run/run.js'
import { PolicyWatch } from '../run/warnings.js'
import { iterationEvent, sampleEvents } from './event.js'
import type { Experience } from './experience.js'
import type { PolicyState } from './state.js'
import type { PolicyTraining } from './training.js'
import type { Learned } from './update.js'

/** A rollout before its updates. */
interface Drawn {
  experience: Experience
  seconds: PolicyStepEvent['seconds']
}

/** Samples the rollout of an iteration; null if stop() ended it. */
export async function drawUnlessStopped<Step extends PolicyStepEvent>(
  training: PolicyTraining<Step>,
  state: PolicyState,
  control: RunControl,
): Promise<Drawn | null> {
  const { signal } = training.options
  try {
    const either = signal ? AbortSignal.any([signal, control.stop]) : control.stop
    return await draw(training, state, control, either)
  } catch (error) {
    // No update was made yet: a resume samples the same responses again.
    if (error instanceof AbortError && control.stop.aborted && !signal?.aborted) return null
    throw error
  }
}

async function draw<Step extends PolicyStepEvent>(
  { options, prompts, groupSize, draw }: PolicyTraining<Step>,
  state: PolicyState,
  control: RunControl,
  signal: AbortSignal,
): Promise<Drawn> {
  const taken = takePrompts(prompts, { from: state.taken, count: options.batchSize, ...options })
  const seconds = { rollout: 0, score: 0, update: 0 }
  const experience = await draw({
    prompts: taken.flatMap((prompt) => Array<typeof prompt>(groupSize).fill(prompt)),
    seed: hash32(options.seed, STREAM.rollout, state.step),
    step: state.step + 1,
    signal,
    async timed(what, work) {
      const begun = performance.now()
      control.phase = what === 'rollout' ? 'rollout' : 'scoring'
      const result = await work()
      seconds[what] += (performance.now() - begun) / 1000
      return result
    },
  })
  control.phase = 'training'
  const away = experience.kl.find((value) => Math.abs(value) > 1e-3)
  if (state.step === 0 && options.reference === undefined && away !== undefined) {
    throw new PosttrainError(
      'ERR_INTERNAL',
      `the reference differs from the policy before the first update (KL ${away})`,
    )
  }
  return { experience, seconds }
}

/** Updates the models from a rollout. Returns the event of the iteration, and the next state with pending events. */
export async function learnFrom<Step extends PolicyStepEvent>(
  { experience, seconds }: Drawn,
  training: PolicyTraining<Step>,
  state: PolicyState,
): Promise<{ event: Step; state: PolicyState; failed: Learned['failed'] }> {
  const { options, prompts, klCoef, klLimit } = training
  const progress = {
    iteration: state.step,
    learningRate: learningRateAt(state.step, { ...options, totalSteps: state.totalSteps }),
    klCoef: state.klCoef,
    scores: state.scores,
  }
  const begun = performance.now()
  const { policy, reward, metrics } = await training.learn(experience, progress)
  seconds.update = (performance.now() - begun) / 1000
  const taken = state.taken + options.batchSize
  const epoch = taken / prompts.items.length
  const common = iterationEvent(experience, { ...progress, policy, reward, epoch, seconds })
  const event = { ...common, ...metrics } as Step
  const { step, kl } = event

  const watch = watchOf(training, state)
  const pending: PolicyState['pending'] = watch.see(event)
  const { samples } = options
  if (samples && step % samples.everySteps === 0)
    pending.push(...sampleEvents(experience, step, samples.count))
  const overLimit = klLimit !== undefined && kl !== undefined && kl > klLimit
  if (overLimit) {
    const message = `The mean KL of a response is ${kl.toFixed(2)} nats, above the limit of ${klLimit}: the run stops here; raise klCoef or lower the learning rate`
    pending.push({ type: 'warning', step, code: 'klExplodes', message })
  }
  const applied = policy.failed === null
  const after: PolicyState = {
    ...state,
    step,
    pending,
    taken,
    klCoef:
      kl !== undefined && applied ? klCoef.next(state.klCoef, kl, experience.responses.length) : state.klCoef,
    lastLoss: applied ? policy.loss : state.lastLoss,
    skippedInARow: applied ? 0 : state.skippedInARow + 1,
    overLimit,
    watch: watch.state,
  }
  return { event, state: after, failed: policy.failed }
}

/** Watch of the iterations, from the state of a run. */
export function watchOf<Step extends PolicyStepEvent>(
  { model, options, valueClip }: PolicyTraining<Step>,
  state: PolicyState,
): PolicyWatch {
  const { maxNewTokens } = options
  return new PolicyWatch(state.watch, { maxNewTokens, stops: model.stopIds.length > 0, valueClip })
}
