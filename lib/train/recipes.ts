import type { DataReport, PromptReport } from '../data/index.js'
import type { OptionInput, OptionSet } from '../options/option.js'
import { pretrainOptions, sftOptions } from './options/fields.js'
import { grpoOptions, rlooOptions } from './options/group.js'
import { ppoOptions } from './options/ppo.js'
import { dpoOptions, rewardOptions } from './options/preference.js'
import type { EvaluationBase, StepBase, TrainEvent } from './run/events.js'

/** An event of any recipe. */
export type AnyEvent = TrainEvent<StepBase, EvaluationBase, DataReport | PromptReport>

/** A run of any recipe: what a program needs that does not know which one it started. */
export interface AnyRun extends AsyncIterable<AnyEvent> {
  stop(): void
}

/** What a recipe is, for programs that take its name and options from outside: a command line, a file, an estimate. */
export interface RecipeEntry {
  /** One line for people. */
  summary: string
  options: OptionSet
  /** What its rows hold: plain text, prompts with responses, two or more responses to compare, or prompts alone. */
  rows: 'text' | 'responses' | 'comparisons' | 'prompts'
  /** It trains on responses that the policy draws (PPO, GRPO, RLOO): its length is `iterations`, and it needs rewards. */
  rollout: boolean
  /** Starts it; the options are checked as always. */
  start(options: Record<string, unknown>): Promise<AnyRun>
}

/** An entry whose `load` reads the recipe's code when it is started. */
function recipe<Set extends OptionSet>(
  entry: Omit<RecipeEntry, 'options' | 'start'> & { options: Set },
  load: () => Promise<(options: OptionInput<Set>) => AsyncIterable<unknown> & { stop(): void }>,
): RecipeEntry {
  const start = async (options: Record<string, unknown>) =>
    (await load())(options as OptionInput<Set>) as AnyRun
  return { ...entry, start }
}

/** All recipes by name. Reading this file reads none of them. */
export const RECIPES = {
  sft: recipe(
    {
      summary: 'Fine-tune a model on instructions or conversations',
      options: sftOptions,
      rows: 'responses',
      rollout: false,
    },
    async () => (await import('./sft.js')).sft,
  ),
  pretrain: recipe(
    { summary: 'Train a model on plain text', options: pretrainOptions, rows: 'text', rollout: false },
    async () => (await import('./pretrain.js')).pretrain,
  ),
  reward: recipe(
    {
      summary: 'Train a reward model on rankings',
      options: rewardOptions,
      rows: 'comparisons',
      rollout: false,
    },
    async () => (await import('./reward.js')).reward,
  ),
  dpo: recipe(
    {
      summary: 'Train on chosen and rejected responses, without a reward model (DPO, KTO and others)',
      options: dpoOptions,
      rows: 'comparisons',
      rollout: false,
    },
    async () => (await import('./dpo.js')).dpo,
  ),
  ppo: recipe(
    {
      summary: 'Reinforcement learning with actor, critic, reward and reference (RLHF)',
      options: ppoOptions,
      rows: 'prompts',
      rollout: true,
    },
    async () => (await import('./ppo.js')).ppo,
  ),
  grpo: recipe(
    {
      summary: 'Reinforcement learning with groups of responses and no critic',
      options: grpoOptions,
      rows: 'prompts',
      rollout: true,
    },
    async () => (await import('./grpo.js')).grpo,
  ),
  rloo: recipe(
    {
      summary: 'Reinforcement learning with each response against the others of its group',
      options: rlooOptions,
      rows: 'prompts',
      rollout: true,
    },
    async () => (await import('./grpo.js')).rloo,
  ),
} as const satisfies Record<string, RecipeEntry>

export type RecipeName = keyof typeof RECIPES
export const RECIPE_NAMES = Object.keys(RECIPES) as RecipeName[]
