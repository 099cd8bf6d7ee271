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

/** Inputs of a rollout. */
export interface Draw {
  /** One prompt per response. */
  prompts: readonly PromptItem[]
  seed: number
  /** Number of the iteration, from 1. */
  step: number
  /** Aborted by stop() too, which drops a rollout before its updates. */
  signal: AbortSignal
  /** Adds the time of `work` to that of the rollout or of its scores. */
  timed<T>(what: 'rollout' | 'score', work: () => Promise<T>): Promise<T>
}

/** Progress of a run at the updates from a rollout. */
export interface Progress {
  /** Number of the iteration, from 0. */
  iteration: number
  learningRate: number
  klCoef: number
  /** Updated in place if scores are normalized. */
  scores: ScoreHistory
}

/** Result of the updates from a rollout. */
export interface Outcome<Step extends PolicyStepEvent> {
  policy: Learned
  /** Mean reward of the responses: score with penalties. */
  reward: number
  metrics: Omit<Step, keyof PolicyStepEvent>
}

/** One iteration of a recipe. */
export interface Iteration<Step extends PolicyStepEvent> {
  /** Samples and scores a rollout; changes nothing, so that a resume samples the same again. */
  draw(at: Draw): Promise<Experience>
  /** Updates the trained models. */
  learn(experience: Experience, at: Progress): Promise<Outcome<Step>>
}

/** Everything that the loop needs of PPO, GRPO or RLOO. */
export interface PolicyTraining<Step extends PolicyStepEvent> extends Iteration<Step> {
  recipe: string
  model: CausalLM
  options: PolicyOptions
  /** Options for config.json, with values that the recipe resolved. */
  config: Record<string, unknown>
  prompts: PromptSet
  template: Template | null
  sources: readonly RewardSource[]
  reference: CausalLM | null
  /** Responses to each prompt. */
  groupSize: number
  parts: Parts
  /** Weight of the KL penalty: initial, and after an iteration. */
  klCoef: { start: number; next(coef: number, kl: number, responses: number): number }
  klLimit: number | undefined
  /** `valueClip` of PPO for a warning about scores far from 0; undefined if scores are bounded. */
  valueClip?: number | undefined
  /** Saves other trained models, such as the critic. */
  saveOthers?(folder: RunFolder): Promise<void>
}
