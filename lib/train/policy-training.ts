import { call } from '../addon/call.js'
import type { PromptReport, PromptSet, Template } from '../data/index.js'
import { takePrompts } from '../data/index.js'
import { hash32 } from '../data/random.js'
import { PosttrainError } from '../errors.js'
import { type CausalLM, nativeOf } from '../models/causal-lm.js'
import { learningRateAt } from '../optim/schedule.js'
import { actionOffsets, logProbsOf } from '../rollout/experience.js'
import { type Rewarded, type RewardSource, rewardsOf } from '../rollout/rewards.js'
import { type Response, rollout } from '../rollout/rollout.js'
import { loadCheckpoint, newestCheckpoint, type Parts, saveCheckpoint } from './checkpoint.js'
import type { EndEvent, PolicyStepEvent, SampleEvent, TrainEvent, WarningEvent } from './events.js'
import type { PolicyOptions } from './policy-options.js'
import type { Learned } from './policy-update.js'
import { type RunControl, throwIfAborted } from './run.js'
import { RunFolder, runConfig } from './run-folder.js'
import { saveResult } from './supervised-training.js'
import { differences, type Environment } from './training-state.js'
import { PolicyWatch, type WatchState } from './warnings.js'

/** What is known of a rollout before anything is learnt from it. */
export interface Experience {
  responses: Response[]
  /** Where the tokens of each answer begin in the vectors below, [B + 1]. */
  offsets: Int32Array
  /** Scores of the answers, before penalties, [B]. */
  rewarded: Rewarded
  /** Log-probabilities of every token by the training forward of the policy that drew it, and of the reference, [N]. */
  oldLogProbs: Float64Array
  referenceLogProbs: Float64Array | null
  /** Sum of log p - log p_ref over each answer, [B]; zeros without a reference. */
  kl: Float64Array
  /** Of this iteration, from 0. */
  iteration: number
  klCoef: number
}

/** What a recipe made of a rollout. */
export interface Outcome<Step extends PolicyStepEvent> {
  policy: Learned
  /** Mean over answers of the score with everything that was added to it. */
  reward: number
  metrics: Omit<Step, keyof PolicyStepEvent>
}

/** All that a run knows between two iterations, besides weights and moments. */
export interface PolicyState {
  step: number
  settled: number
  /** Prompts taken so far. */
  taken: number
  klCoef: number
  /** Of the scores so far, for scoreNormalize (Welford 1962). */
  scores: { count: number; mean: number; squares: number }
  lastLoss: number
  skippedInARow: number
  totalSteps: number
  environment: Environment | null
  watch: WatchState
}

/** What PPO, GRPO and RLOO have made ready for the loop that they share. */
export interface PolicyTraining<Step extends PolicyStepEvent> {
  recipe: string
  model: CausalLM
  options: PolicyOptions
  prompts: PromptSet
  template: Template
  sources: readonly RewardSource[]
  reference: CausalLM | null
  /** Answers to each prompt. */
  groupSize: number
  parts: Parts
  /** Weight of the KL penalty at first, and after an iteration. */
  klCoef: { start: number; next(coef: number, kl: number, answers: number): number }
  klLimit: number | undefined
  choices: Record<string, unknown>
  parameters: { all: number; trainable: number }
  /** Learns from a rollout; changes `state.scores` where scores are normalised. */
  learn(
    experience: Experience,
    context: { learningRate: number; state: PolicyState; seed: number },
  ): Promise<Outcome<Step>>
  /** Saves what the run made beside the policy. */
  saveOthers(folder: RunFolder): Promise<void>
}

/** Numbers of the streams that an iteration draws from. */
const ROLLOUT = 5_000_000
export const UPDATE = 6_000_000

/** The loop of policy optimisation: rollout, scores, updates, from the run folder to the saved model. */
export async function* trainPolicy<Step extends PolicyStepEvent>(
  training: PolicyTraining<Step>,
  control: RunControl,
): AsyncGenerator<TrainEvent<Step, never, PromptReport>, EndEvent> {
  type Event = TrainEvent<Step, never, PromptReport>
  const { model, options, prompts, sources, reference, groupSize, parts } = training
  const { signal } = options
  const startedAt = performance.now()
  const totalSteps = options.iterations ?? Math.max(1, Math.ceil(prompts.items.length / options.batchSize))
  const folder = options.output === undefined ? null : new RunFolder(options.output)
  await folder?.open(
    runConfig(training.recipe, { ...options, ...training.choices }, { data: prompts.hash }),
    options,
  )
  const { libtorch, threads } = await nativeOf(model).core.info()
  const environment = { libtorch, threads, device: model.device }
  let state: PolicyState = {
    step: 0,
    settled: 0,
    taken: 0,
    klCoef: training.klCoef.start,
    scores: { count: 0, mean: 0, squares: 0 },
    lastLoss: 0,
    skippedInARow: 0,
    totalSteps,
    environment,
    watch: PolicyWatch.start,
  }
  let warnings: string[] = []
  let savedAt = -1
  let overLimit = false

  async function note<E extends Event>(event: E): Promise<E> {
    await folder?.appendMetrics(event)
    return event
  }
  const save = async (run: RunFolder): Promise<string> => {
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
  const over = () => control.stopping || overLimit || state.step >= totalSteps

  try {
    if (folder && options.resume) {
      const checkpoint = await newestCheckpoint(folder.checkpoints)
      if (checkpoint) {
        state = (await loadCheckpoint(checkpoint, parts)) as PolicyState
        savedAt = state.step
        warnings = differences(state, { totalSteps, environment })
        state = { ...state, totalSteps, environment }
      }
      await folder.rewindMetrics(state)
    }
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
    if (model.stopIds.length === 0) yield await note(noStopToken(state.step))

    while (!over()) {
      throwIfAborted(signal)
      const iteration = state.step
      const { experience, entropy, seconds } = await gatherExperience(iteration)
      const before = performance.now()
      const learningRate = learningRateAt(iteration, { ...options, totalSteps })
      const { policy, reward, metrics } = await training.learn(experience, {
        learningRate,
        state,
        seed: options.seed,
      })
      seconds.update = (performance.now() - before) / 1000
      const event = stepEvent(experience, policy, reward, entropy, seconds, learningRate, metrics)
      const { kl } = event
      state = {
        ...state,
        step: iteration + 1,
        settled: iteration + 1,
        taken: state.taken + options.batchSize,
        klCoef:
          kl === undefined
            ? state.klCoef
            : training.klCoef.next(state.klCoef, kl, experience.responses.length),
        lastLoss: policy.failed === null ? policy.loss : state.lastLoss,
        skippedInARow: policy.failed === null ? 0 : state.skippedInARow + 1,
      }
      const watch = new PolicyWatch(state.watch, options)
      const seen = watch.see(event)
      state = { ...state, watch: watch.state }
      yield await note(event)
      for (const warning of seen) yield await note(warning)
      if (state.skippedInARow >= options.maxSkippedSteps) {
        throw new PosttrainError(
          'ERR_NON_FINITE',
          `Training stopped at iteration ${state.step}: the ${policy.failed === 'nonFiniteLoss' ? 'loss' : 'gradient'} was not finite in ${state.skippedInARow} iterations in a row; lower the learning rate, or look at the rewards`,
        )
      }
      for (const sample of samplesOf(experience)) yield await note(sample)
      if (training.klLimit !== undefined && kl !== undefined && kl > training.klLimit) {
        overLimit = true
        yield await note({
          type: 'warning',
          step: state.step,
          code: 'klExplodes',
          message: `The mean KL of an answer is ${kl.toFixed(2)} nats, above the limit of ${training.klLimit}: the run stops here; raise klCoef or lower the learning rate`,
        })
      }
      const every = options.checkpoints?.everySteps ?? 10
      if (folder && state.skippedInARow === 0 && state.step % every === 0)
        yield await note({ type: 'checkpoint', step: state.step, path: await save(folder) })
    }

    throwIfAborted(signal)
    const reason = overLimit ? 'klLimit' : state.step >= totalSteps ? 'completed' : 'stopped'
    if (folder) {
      if (savedAt !== state.step)
        yield await note({ type: 'checkpoint', step: state.step, path: await save(folder) })
      await saveResult(model, folder, options.saveDtype)
      await training.saveOthers(folder)
    }
    return await note(summary(reason))
  } finally {
    control.save = null
    await folder?.close()
  }

  /** One rollout with its scores and log-probabilities. */
  async function gatherExperience(iteration: number) {
    const begun = performance.now()
    const taken = takePrompts(prompts, { from: state.taken, count: options.batchSize, ...options })
    const asked = taken.flatMap((prompt) => Array<typeof prompt>(groupSize).fill(prompt))
    const responses = await rollout(model, asked, {
      ...options,
      seed: hash32(options.seed, ROLLOUT, iteration),
    })
    const rolledOut = performance.now()
    const rewarded = await rewardsOf(sources, responses, {
      timeoutMs: options.rewardTimeoutMs,
      batchTokens: options.batchTokens,
      signal,
    })
    const { logProbs: oldLogProbs, entropy } = await logProbsOf(model, responses, options)
    const referenceLogProbs =
      reference === null ? null : (await logProbsOf(reference, responses, options)).logProbs
    const offsets = actionOffsets(responses)
    const kl = new Float64Array(responses.length)
    if (referenceLogProbs !== null) {
      for (let i = 0; i < kl.length; i++)
        for (let t = offsets[i]!; t < offsets[i + 1]!; t++) kl[i]! += oldLogProbs[t]! - referenceLogProbs[t]!
    }
    if (iteration === 0 && options.reference === undefined && kl.some((value) => Math.abs(value) > 1e-3)) {
      throw new PosttrainError(
        'ERR_INTERNAL',
        `the reference differs from the policy before the first update (KL ${kl.find((value) => Math.abs(value) > 1e-3)})`,
      )
    }
    const seconds = {
      rollout: (rolledOut - begun) / 1000,
      score: (performance.now() - rolledOut) / 1000,
      update: 0,
    }
    const experience: Experience = {
      responses,
      offsets,
      rewarded,
      oldLogProbs,
      referenceLogProbs,
      kl,
      iteration,
      klCoef: state.klCoef,
    }
    return { experience, entropy, seconds }
  }

  function stepEvent(
    { responses, rewarded, oldLogProbs, offsets, kl, iteration, klCoef }: Experience,
    policy: Learned,
    reward: number,
    entropy: number,
    seconds: PolicyStepEvent['seconds'],
    learningRate: number,
    metrics: Omit<Step, keyof PolicyStepEvent>,
  ): Step {
    const mean = (values: ArrayLike<number>) =>
      values.length === 0 ? 0 : Array.from(values).reduce((sum, value) => sum + value, 0) / values.length
    let gap = 0
    for (const [i, { sampledLogProbs }] of responses.entries())
      for (const [t, sampled] of sampledLogProbs.entries())
        gap = Math.max(gap, Math.abs(sampled - oldLogProbs[offsets[i]! + t]!))
    const sums = policy.sums[0] ?? { loss: 0, count: 0 }
    const per = (value: number | undefined) => (value ?? 0) / Math.max(1e-12, sums.count)
    const ratioMean = per(sums.ratio)
    const tokens = responses.reduce(
      (sum, { prompt, tokenIds }) => sum + prompt.promptIds.length + tokenIds.length,
      0,
    )
    const total = seconds.rollout + seconds.score + seconds.update
    const event: PolicyStepEvent = {
      type: 'step',
      step: iteration + 1,
      epoch: (state.taken + options.batchSize) / prompts.items.length,
      loss: policy.loss,
      gradNorm: policy.gradNorm,
      learningRate,
      tokens,
      tokensPerSecond: tokens / total,
      ...(policy.failed && {
        skipped: { reason: policy.failed, rows: responses.map(({ prompt }) => prompt.origin) },
      }),
      score: mean(rewarded.total),
      scoreBySource: Object.fromEntries(
        Object.entries(rewarded.bySource).map(([name, values]) => [name, mean(values)]),
      ),
      reward,
      ...(reference !== null && { kl: mean(kl), klCoef }),
      entropy,
      policyLoss: per(sums.loss),
      approxKl: per(sums.approxKl),
      clipFraction: per(sums.clipped),
      ratioMean,
      ratioVariance: Math.max(0, per(sums.ratioSquared) - ratioMean * ratioMean),
      responseLength: mean(responses.map(({ tokenIds }) => tokenIds.length)),
      stoppedFraction: mean(responses.map(({ stopped }) => Number(stopped))),
      distinctFraction: new Set(responses.map(({ tokenIds }) => tokenIds.join())).size / responses.length,
      logProbGap: gap,
      updates: policy.steps,
      seconds,
    }
    return { ...event, ...metrics } as Step
  }

  function samplesOf({ responses, rewarded, kl, iteration }: Experience): SampleEvent[] {
    const { samples } = options
    if (!samples || (iteration + 1) % samples.everySteps !== 0) return []
    return responses.slice(0, samples.count).map(({ prompt, text, stopped }, i) => ({
      type: 'sample',
      step: iteration + 1,
      prompt: prompt.prompt,
      text,
      finishReason: stopped ? 'stop' : 'length',
      score: rewarded.total[i]!,
      ...(reference !== null && { kl: kl[i]! }),
    }))
  }
}

function noStopToken(step: number): WarningEvent {
  return {
    type: 'warning',
    step,
    code: 'noStopToken',
    message:
      'The model knows no token that ends an answer, so every answer runs into maxNewTokens: name an eos_token in tokenizer_config.json, or take a template whose turns end in a special token',
  }
}

/** Runs a native function on the core of a model. */
export async function native<T>(
  model: CausalLM,
  run: (core: ReturnType<typeof nativeOf>['core']) => Promise<T>,
): Promise<T> {
  const { core } = nativeOf(model)
  return await call(core, () => run(core))
}
