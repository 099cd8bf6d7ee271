import type { DataReport, PromptReport } from '../data/index.js'
import type { OptionInput, OptionSet } from '../options/option.js'
import { pretrainOptions, sftOptions } from './options/fields.js'
import { grpoOptions, rlooOptions } from './options/group.js'
import { ppoOptions } from './options/ppo.js'
import { dpoOptions, rewardOptions } from './options/preference.js'
import type { EvaluationBase, StepBase, TrainEvent } from './run/events.js'
import type { RunPhase } from './run/run.js'

/** An event of any recipe. */
export type AnyEvent = TrainEvent<StepBase, EvaluationBase, DataReport | PromptReport>

/** A run of any recipe, for programs that take the recipe as an argument. */
export interface AnyRun extends AsyncIterable<AnyEvent> {
  readonly phase: RunPhase
  stop(): void
}

/** A recipe by name, for programs that take its name and options as data: command line, config file, estimate. */
export interface RecipeEntry {
  /** One line of help. */
  summary: string
  options: OptionSet
  /** Kind of its rows: plain text, prompts with responses, preference data, or prompts only. */
  rows: 'text' | 'responses' | 'comparisons' | 'prompts'
  /** Whether it trains on rollouts of the policy (PPO, GRPO, RLOO): its length is `iterations`, and it needs rewards. */
  rollout: boolean
  /** Starts a run; throws ERR_INVALID_ARGUMENT for wrong options. */
  start(options: Record<string, unknown>): Promise<AnyRun>
}

/** An entry that imports the recipe's code by `load` when a run starts. */
function recipe<Set extends OptionSet>(
  entry: Omit<RecipeEntry, 'options' | 'start'> & { options: Set },
  load: () => Promise<(options: OptionInput<Set>) => AsyncIterable<unknown> & Pick<AnyRun, 'phase' | 'stop'>>,
): RecipeEntry {
  const start = async (options: Record<string, unknown>) =>
    (await load())(options as OptionInput<Set>) as AnyRun
  return { ...entry, start }
}

/** All recipes by name. Importing this file imports none of them. */
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
      summary: 'Train a reward model on preference data',
      options: rewardOptions,
      rows: 'comparisons',
      rollout: false,
    },
    async () => (await import('./reward.js')).reward,
  ),
  dpo: recipe(
    {
      summary: 'Train on preference data without a reward model (DPO, KTO and others)',
      options: dpoOptions,
      rows: 'comparisons',
      rollout: false,
    },
    async () => (await import('./dpo.js')).dpo,
  ),
  ppo: recipe(
    {
      summary: 'Reinforcement learning with actor, critic, reward and reference (RLHF, PPO)',
      options: ppoOptions,
      rows: 'prompts',
      rollout: true,
    },
    async () => (await import('./ppo.js')).ppo,
  ),
  grpo: recipe(
    {
      summary: 'Reinforcement learning from groups of responses, without a critic (GRPO)',
      options: grpoOptions,
      rows: 'prompts',
      rollout: true,
    },
    async () => (await import('./grpo.js')).grpo,
  ),
  rloo: recipe(
    {
      summary: 'Reinforcement learning with a leave-one-out baseline in each group of responses (RLOO)',
      options: rlooOptions,
      rows: 'prompts',
      rollout: true,
    },
    async () => (await import('./grpo.js')).rloo,
  ),
} as const satisfies Record<string, RecipeEntry>

export type RecipeName = keyof typeof RECIPES
export const RECIPE_NAMES = Object.keys(RECIPES) as RecipeName[]
