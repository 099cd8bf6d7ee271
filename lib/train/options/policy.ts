import type { z } from 'zod'
import type { CausalLM } from '../../models/causal-lm.js'
import { count, isModel, isObject } from '../../options/kinds.js'
import { type Conflict, custom, option } from '../../options/option.js'
import { trainingFields } from '../../options/training.js'
import { lazily } from '../../options/zod.js'
import type { Reward } from '../../rollout/rewards.js'
import { promptsOption, recipeFields } from './fields.js'

/** Options that PPO, GRPO and RLOO have in common. */
export const policyFields = lazily((z) => {
  const { model, data: _data, alignmentLora: lora, template, onBadRow, signal } = recipeFields()
  const {
    maxSteps: _maxSteps,
    batchSize: _batchSize,
    batchTokens: _batchTokens,
    gradientAccumulation: _accumulation,
    maxLength: _maxLength,
    schedule: _schedule,
    evaluation: _evaluation,
    earlyStopping: _earlyStopping,
    samples: _samples,
    checkpoints: _checkpoints,
    ...kept
  } = trainingFields()
  return {
    model,
    data: promptsOption(),
    reward: option(
      custom<Reward>(
        'Reward<RowOf<Row>>',
        (value) => typeof value === 'function' || isObject(value),
        'must be a RewardModel, a function over samples, or a list of { reward, weight }',
      ),
      'What responses are worth: a reward model, a function over samples, or several of them, each with its weight',
      {
        help: 'What answers are worth: the folder of a reward model, or a .js file that exports a function; several with FILE=WEIGHT',
        placeholder: 'DIR|FILE.js',
        read: (text) => text,
        repeat: true,
        collect: (values) => values,
      },
    ),
    reference: option(
      custom<CausalLM>('CausalLM', isModel, 'must be a model').optional(),
      'What the policy is kept near to (default: the model as it is at the start)',
      false,
    ),
    lora,
    template,
    iterations: option(
      count().optional(),
      'Rollouts, each followed by its updates (default: one pass over the prompts)',
    ),
    maxNewTokens: option(count().default(128), 'Tokens of an answer at most'),
    temperature: option(
      z.number().gt(0).default(1),
      'Of the draws and of every log-probability; nothing else bends the distribution',
    ),
    maxPromptLength: option(
      count().optional(),
      "Tokens of a prompt at most (default: what the model's context leaves)",
    ),
    overflow: option(z.enum(['drop', 'error']).default('error'), 'What becomes of a longer prompt'),
    onBadRow,
    // Node's timers know no longer one: it would be over at once.
    rewardTimeoutMs: option(
      count()
        .max(2 ** 31 - 1)
        .default(60_000),
      'A reward function that takes longer has failed, in milliseconds',
    ),
    batchTokens: option(
      count().default(4096),
      'Tokens of one forward and backward at most: less needs less memory and changes nothing else',
    ),
    schedule: option(
      z.enum(['cosine', 'linear', 'constant', 'warmupStableDecay']).default('constant'),
      'How the learning rate falls after the warm-up, over the iterations',
    ),
    ...kept,
    samples: option(
      z
        .object({
          count: option(count().default(2), 'Answers shown, with what they earned'),
          everySteps: option(count().default(1), 'Every N iterations'),
        })
        .optional(),
      'Some answers of a rollout as events',
    ),
    checkpoints: option(
      z
        .object({
          everySteps: option(count().default(10), 'Save a checkpoint every N iterations'),
          keep: option(count().default(2), 'Newest checkpoints kept'),
        })
        .optional(),
      'From which a run resumes exactly (default: every 10 iterations)',
    ),
    signal,
  }
})

export const noEffect = (name: string, when: Conflict['when'], because: string): Conflict => ({
  option: name,
  when,
  because,
})

export const policyConflicts: readonly Conflict[] = [
  noEffect(
    'warmupRatio',
    (given) => given('warmupSteps'),
    'cannot stand beside warmupSteps: give one of them',
  ),
  noEffect(
    'minLearningRateRatio',
    (_, options) => options.schedule === 'constant',
    "has no effect with schedule 'constant': take another schedule",
  ),
  noEffect(
    'decayRatio',
    (_, options) => options.schedule !== 'warmupStableDecay',
    "has no effect without schedule 'warmupStableDecay'",
  ),
  ...['checkpoints', 'saveDtype', 'resume', 'overwrite'].map((name) =>
    noEffect(
      name,
      (given, options) => !given('output') && options[name] !== false,
      'has no effect without output: name a run folder',
    ),
  ),
  noEffect(
    'overwrite',
    (_, options) => options.overwrite === true && options.resume === true,
    'cannot stand beside resume: go on with the run in the folder, or replace it',
  ),
  noEffect('saveDtype', (given) => given('lora'), 'has no effect with lora: adapters are saved in float32'),
]

/** What the options of all three have in common once they are checked and the defaults filled in. */
export type PolicyOptions = z.output<z.ZodObject<ReturnType<typeof policyFields>>> & {
  batchSize: number
  learningRate: number
}
