import type { PromptItem, PromptSet, Template } from '../../data/index.js'
import type { CausalLM } from '../../models/causal-lm.js'
import type { RewardSource } from '../../rollout/rewards.js'
import type { PolicyOptions } from '../options/policy.js'
import type { Parts } from '../run/checkpoint.js'
import type { PolicyStepEvent } from '../run/events.js'
import type { RunFolder } from '../run/folder.js'
import type { Experience } from './experience.js'
import type { ScoreHistory } from './state.js'
import type { Learned } from './update.js'

/** What an iteration begins with. */
export interface Draw {
  /** One for each response that is wanted. */
  prompts: readonly PromptItem[]
  seed: number
  /** Aborted by stop() too: a rollout from which nothing was learnt is dropped. */
  signal: AbortSignal
  /** Counts the time of some work as that of the rollout or of its scores. */
  timed<T>(what: 'rollout' | 'score', work: Promise<T>): Promise<T>
}

/** Where a run stands when it learns from a rollout. */
export interface Progress {
  /** From 0. */
  iteration: number
  learningRate: number
  klCoef: number
  /** Updated where scores are normalized. */
  scores: ScoreHistory
}

/** What a recipe made of a rollout. */
export interface Outcome<Step extends PolicyStepEvent> {
  policy: Learned
  /** Mean over responses of the score with everything that was added to it. */
  reward: number
  metrics: Omit<Step, keyof PolicyStepEvent>
}

/** One iteration of a recipe. */
export interface Iteration<Step extends PolicyStepEvent> {
  /** Rolls out and scores; changes nothing, so that a resume draws the same again. */
  draw(at: Draw): Promise<Experience>
  /** Updates what is trained. */
  learn(experience: Experience, at: Progress): Promise<Outcome<Step>>
}

/** What PPO, GRPO and RLOO have made ready for the loop that they share. */
export interface PolicyTraining<Step extends PolicyStepEvent> extends Iteration<Step> {
  recipe: string
  model: CausalLM
  options: PolicyOptions
  /** The options for config.json, with what the recipe chose besides. */
  config: Record<string, unknown>
  prompts: PromptSet
  template: Template
  sources: readonly RewardSource[]
  reference: CausalLM | null
  /** Responses to each prompt. */
  groupSize: number
  parts: Parts
  /** Weight of the KL penalty at first, and after an iteration. */
  klCoef: { start: number; next(coef: number, kl: number, responses: number): number }
  klLimit: number | undefined
  /** Of PPO: what scores far from 0 are too much for, where nothing else bounds them. */
  valueClip?: number | undefined
  /** Saves what was trained beside the policy. */
  saveOthers?(folder: RunFolder): Promise<void>
}
