import type { PromptReport } from '../../data/index.js'
import { takePrompts } from '../../data/index.js'
import { AbortError, PosttrainError } from '../../errors.js'
import { learningRateAt } from '../../optim/schedule.js'
import { hash32, STREAM } from '../../random.js'
import { rewardsOf } from '../../rollout/rewards.js'
import { rollout } from '../../rollout/rollout.js'
import {
  likelihoodBefore,
  refuseOtherJudges,
  refuseOtherReference,
  scoresBefore,
} from '../roles/reference.js'
import { refuseOtherAdapter } from '../roles/training-lock.js'
import { checkpointState, loadCheckpoint, newestCheckpoint, saveCheckpoint } from '../run/checkpoint.js'
import type { EndEvent, PolicyStepEvent, TrainEvent } from '../run/events.js'
import { RunFolder, runConfig } from '../run/folder.js'
import { type RunControl, throwIfAborted } from '../run/run.js'
import { PolicyWatch } from '../run/warnings.js'
import { saveResult } from '../supervised/loop.js'
import { differences } from '../supervised/state.js'
import { type Experience, experienceOf, iterationEvent, samplesOf } from './experience.js'
import type { PolicyState, PolicyTraining } from './state.js'
import type { Learned } from './update.js'

/** A rollout that nothing was learnt from yet. */
interface Drawn {
  experience: Experience
  seconds: PolicyStepEvent['seconds']
}

/** The loop of policy optimisation: rollout, scores, updates, from the run folder to the saved model. */
export async function* trainPolicy<Step extends PolicyStepEvent>(
  training: PolicyTraining<Step>,
  control: RunControl,
): AsyncGenerator<TrainEvent<Step, never, PromptReport>, EndEvent> {
  type Event = TrainEvent<Step, never, PromptReport>
  const { model, options, prompts, sources, reference, groupSize, parts } = training
  const { signal } = options
  const { adapter } = model
  // What ends a rollout; updates are ended by `signal` alone.
  const drawing = { ...options, signal: signal ? AbortSignal.any([signal, control.stop]) : control.stop }
  const startedAt = performance.now()
  const totalSteps = options.iterations ?? Math.max(1, Math.ceil(prompts.items.length / options.batchSize))
  const { libtorch, threads } = await model.role.core.info()
  const folder = options.output === undefined ? null : new RunFolder(options.output)
  await folder?.open(
    runConfig(
      training.recipe,
      model,
      {
        ...options,
        ...training.choices,
        // Models are not written down.
        reference: options.reference && '(model)',
        reward: sources.map(({ name, weight }) => ({ name, weight })),
      },
      { data: prompts.hash },
    ),
    options,
  )
  const environment = { libtorch, threads, device: model.device }
  let state: PolicyState = {
    step: 0,
    settled: 0,
    pending: [],
    taken: 0,
    klCoef: training.klCoef.start,
    scores: { count: 0, mean: 0, squares: 0 },
    lastLoss: 0,
    skippedInARow: 0,
    overLimit: false,
    reference: null,
    judges: [],
    totalSteps,
    environment,
    watch: PolicyWatch.start,
  }
  let warnings: string[] = []
  let savedAt = -1

  async function note<E extends Event>(event: E): Promise<E> {
    await folder?.appendMetrics(event)
    return event
  }
  const save = async (run: RunFolder): Promise<string> => {
    refuseOtherAdapter(model, adapter)
    const keep = options.checkpoints?.keep ?? 2
    const path = await saveCheckpoint(
      run.checkpoints,
      { parts, step: state.step, state },
      { keep, keepStep: null },
    )
    savedAt = state.step
    return path
  }
  const summary = (reason: EndEvent['reason']): EndEvent => ({
    type: 'end',
    reason,
    steps: state.step,
    epochs: state.taken / prompts.items.length,
    loss: state.lastLoss,
    seconds: (performance.now() - startedAt) / 1000,
    ...(folder && {
      output: folder.path,
      model: model.adapter === null ? folder.model : folder.adapter,
    }),
  })
  const over = () => control.stop.aborted || state.overLimit || state.step >= totalSteps

  try {
    const likelihood = await likelihoodBefore(model, reference, prompts.items)
    const judges = await scoresBefore(sources, prompts.items)
    if (folder && options.resume) {
      const checkpoint = await newestCheckpoint(folder.checkpoints)
      if (checkpoint) {
        const before = (await checkpointState(checkpoint)) as PolicyState
        refuseOtherReference(before, { reference: likelihood, environment })
        refuseOtherJudges(before, { judges, environment })
        state = (await loadCheckpoint(checkpoint, parts)) as PolicyState
        savedAt = state.step
        warnings = differences(state, { totalSteps, environment })
      }
      await folder.rewindMetrics(state)
    }
    state = { ...state, totalSteps, environment, reference: likelihood, judges }
    model.adoptTemplate(training.template)
    control.save = folder && (() => save(folder))
    control.summary = summary
    yield await note({
      type: 'start',
      step: state.step,
      totalSteps,
      epochs: (totalSteps * options.batchSize) / prompts.items.length,
      parameters: training.parameters.all,
      trainableParameters: training.parameters.trainable,
      report: prompts.report,
    } as Event)
    for (const message of warnings)
      yield await note({ type: 'warning', step: state.step, code: 'resumeDiffers', message })
    for (const warning of watchOf().begin(state.step)) yield await note(warning)
    yield* tellPending()

    while (!over()) {
      throwIfAborted(signal)
      refuseOtherAdapter(model, adapter)
      const drawn = await drawExperience().catch((error: unknown) => {
        // Nothing was learnt from it yet: a resume draws the same answers again.
        if (error instanceof AbortError && control.stop.aborted && !signal?.aborted) return null
        throw error
      })
      if (drawn === null) break
      const { event, failed } = await learnFrom(drawn)
      yield await note(event)
      yield* tellPending()
      if (state.skippedInARow >= options.maxSkippedSteps) {
        throw new PosttrainError(
          'ERR_NON_FINITE',
          `Training stopped at iteration ${state.step}: the ${failed === 'nonFiniteLoss' ? 'loss' : 'gradient'} was not finite in ${state.skippedInARow} iterations in a row; lower the learning rate, or look at the rewards`,
        )
      }
      const every = options.checkpoints?.everySteps ?? 10
      if (folder && state.skippedInARow === 0 && state.step % every === 0)
        yield await note({ type: 'checkpoint', step: state.step, path: await save(folder) })
    }

    throwIfAborted(signal)
    const reason = state.overLimit ? 'klLimit' : state.step >= totalSteps ? 'completed' : 'stopped'
    if (folder) {
      if (savedAt !== state.step)
        yield await note({ type: 'checkpoint', step: state.step, path: await save(folder) })
      refuseOtherAdapter(model, adapter)
      await saveResult(model, folder, options.saveDtype)
      await training.saveOthers(folder)
    }
    return await note(summary(reason))
  } finally {
    control.save = null
    await folder?.close()
  }

  /** What follows an iteration: a save() in between leaves all of it to be told by the resume. */
  async function* tellPending(): AsyncGenerator<Event, void> {
    for (const event of state.pending) yield await note(event)
    state = { ...state, settled: state.step, pending: [] }
  }

  function watchOf(): PolicyWatch {
    const { maxNewTokens } = options
    const stops = model.stopIds.length > 0
    return new PolicyWatch(state.watch, { maxNewTokens, stops, valueClip: training.valueClip })
  }

  async function learnFrom({
    experience,
    seconds,
  }: Drawn): Promise<{ event: Step; failed: Learned['failed'] }> {
    const learningRate = learningRateAt(state.step, { ...options, totalSteps })
    const before = performance.now()
    const { policy, reward, metrics } = await training.learn(experience, {
      learningRate,
      state,
      seed: options.seed,
    })
    seconds.update = (performance.now() - before) / 1000
    const taken = state.taken + options.batchSize
    const epoch = taken / prompts.items.length
    const common = iterationEvent(experience, { policy, reward, epoch, learningRate, seconds })
    const event = { ...common, ...metrics } as Step
    const { kl } = event
    const watch = watchOf()
    const pending: PolicyState['pending'] = watch.see(event)
    const { samples } = options
    if (samples && event.step % samples.everySteps === 0)
      pending.push(...samplesOf(experience, samples.count))
    const overLimit = training.klLimit !== undefined && kl !== undefined && kl > training.klLimit
    if (overLimit) {
      pending.push({
        type: 'warning',
        step: event.step,
        code: 'klExplodes',
        message: `The mean KL of an answer is ${kl.toFixed(2)} nats, above the limit of ${training.klLimit}: the run stops here; raise klCoef or lower the learning rate`,
      })
    }
    const applied = policy.failed === null
    state = {
      ...state,
      step: event.step,
      pending,
      taken,
      klCoef:
        kl !== undefined && applied
          ? training.klCoef.next(state.klCoef, kl, experience.responses.length)
          : state.klCoef,
      lastLoss: applied ? policy.loss : state.lastLoss,
      skippedInARow: applied ? 0 : state.skippedInARow + 1,
      overLimit,
      watch: watch.state,
    }
    return { event, failed: policy.failed }
  }

  /** One rollout with its scores and log-probabilities. */
  async function drawExperience(): Promise<Drawn> {
    const begun = performance.now()
    const iteration = state.step
    const taken = takePrompts(prompts, { from: state.taken, count: options.batchSize, ...options })
    const asked = taken.flatMap((prompt) => Array<typeof prompt>(groupSize).fill(prompt))
    const responses = await rollout(model, asked, {
      ...drawing,
      seed: hash32(options.seed, STREAM.rollout, iteration),
    })
    const rolledOut = performance.now()
    const rewarded = await rewardsOf(sources, responses, {
      timeoutMs: options.rewardTimeoutMs,
      batchTokens: options.batchTokens,
      signal: drawing.signal,
    })
    const drawn = { responses, rewarded, iteration, klCoef: state.klCoef }
    const experience = await experienceOf({ model, reference }, drawn, drawing)
    const away = experience.kl.find((value) => Math.abs(value) > 1e-3)
    if (iteration === 0 && options.reference === undefined && away !== undefined) {
      throw new PosttrainError(
        'ERR_INTERNAL',
        `the reference differs from the policy before the first update (KL ${away})`,
      )
    }
    const seconds = {
      rollout: (rolledOut - begun) / 1000,
      score: (performance.now() - rolledOut) / 1000,
      update: 0,
    }
    return { experience, seconds }
  }
}
