import type { Core } from '../../addon/addon.js'
import { call } from '../../addon/call.js'
import type { PromptSet, Template } from '../../data/index.js'
import type { CausalLM } from '../../models/causal-lm.js'
import type { RewardSource } from '../../rollout/rewards.js'
import type { PolicyOptions } from '../options/policy.js'
import type { Parts } from '../run/checkpoint.js'
import type { PolicyStepEvent, SampleEvent, WarningEvent } from '../run/events.js'
import type { RunFolder } from '../run/folder.js'
import type { WatchState } from '../run/warnings.js'
import type { Environment } from '../supervised/state.js'
import type { Experience } from './experience.js'
import type { Learned } from './update.js'

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
  /** Iterations after which all events were told. */
  settled: number
  /** Events of the iteration just made that are still to be told. */
  pending: (WarningEvent | SampleEvent)[]
  /** Prompts taken so far. */
  taken: number
  klCoef: number
  /** Of the scores so far, for scoreNormalize (Welford 1962). */
  scores: { count: number; mean: number; squares: number }
  lastLoss: number
  skippedInARow: number
  /** The KL was above its limit: the run is over. */
  overLimit: boolean
  /** What the reference says of some prompts, by which a resume knows it again; null without one. */
  reference: number | null
  /** The same of each reward model, by its scores. */
  judges: readonly number[]
  totalSteps: number
  environment: Environment | null
  watch: WatchState
}

/** What an iteration may change besides weights and moments. */
export type LearningState = Pick<PolicyState, 'scores'>

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
  /** Of PPO: what scores far from 0 are too much for, where nothing else bounds them. */
  valueClip?: number | undefined
  choices: Record<string, unknown>
  parameters: { all: number; trainable: number }
  /** Learns from a rollout; changes `state.scores` where scores are normalised. */
  learn(
    experience: Experience,
    context: { learningRate: number; state: LearningState; seed: number },
  ): Promise<Outcome<Step>>
  /** Saves what the run made beside the policy. */
  saveOthers(folder: RunFolder): Promise<void>
}

/** Runs a native function on the core of a model. */
export async function native<T>(model: CausalLM, run: (core: Core) => Promise<T>): Promise<T> {
  const { core } = model.role
  return await call(core, () => run(core))
}
