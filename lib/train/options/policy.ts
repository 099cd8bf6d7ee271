import type { z } from 'zod'
import type { CausalLM } from '../../models/causal-lm.js'
import { count, isModel, isObject } from '../../options/kinds.js'
import { type Conflict, custom, option } from '../../options/option.js'
import { trainingFields } from '../../options/training.js'
import { lazily } from '../../options/zod.js'
import type { Reward } from '../../rollout/rewards.js'
import { promptsOption, recipeFields } from './fields.js'
import { renderingFields } from './rendering.js'

/** Maximum responses of a rollout, all of which are in memory at once. */
export const MAX_RESPONSES = 2 ** 20

/** A number of prompts or responses of a rollout. */
export const responses = (least = 1) => count().min(least).max(MAX_RESPONSES)

/** Options that PPO, GRPO and RLOO have in common. */
export const policyFields = lazily((z) => {
  const { model, data: _data, alignmentLora: lora, onBadRow, signal } = recipeFields()
  const {
    maxSteps: _maxSteps,
    batchSize: _batchSize,
    batchTokens: _batchTokens,
    gradientAccumulation: _accumulation,
    maxLength: _maxLength,
    schedule: _schedule,
    evaluation: _evaluation,
    earlyStopping: _earlyStopping,
    keep: _keep,
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
      'Reward of responses: a reward model, a function over samples, or a weighted list of them',
      {
        help: 'Reward of responses: folder of a reward model, or a .js or .ts file that exports a function; several with FILE=WEIGHT',
        placeholder: 'DIR|FILE',
        read: (text) => text,
        repeat: true,
        collect: (values) => values,
      },
    ),
    reference: option(
      custom<CausalLM>('CausalLM', isModel, 'must be a model').optional(),
      'Frozen reference of the KL penalty (default: the model as it is at the start)',
      false,
    ),
    lora,
    ...renderingFields(),
    iterations: option(
      count().optional(),
      'Iterations of one rollout and its updates (default: one pass over the prompts)',
    ),
    maxNewTokens: option(count().default(128), 'Maximum length of a response, in tokens'),
    rolloutBatchSize: option(
      count().optional(),
      'Responses that are sampled together; where one ends, the next prompt takes its place (default: all of an iteration)',
    ),
    temperature: option(
      z.number().gt(0).default(1),
      'Temperature of sampling and of every log-probability; there is no top-k or top-p',
    ),
    maxPromptLength: option(
      count().optional(),
      'Maximum length of a prompt, in tokens (default: context length minus maxNewTokens)',
    ),
    overflow: option(z.enum(['drop', 'error']).default('error'), 'What to do with a prompt longer than that'),
    onBadRow,
    // The longest delay of Node's timers: a longer one would fire at once.
    rewardTimeoutMs: option(
      count()
        .max(2 ** 31 - 1)
        .default(60_000),
      'Fail when a reward function takes longer than this, in milliseconds',
    ),
    batchTokens: option(
      count().default(4096),
      'Maximum tokens of one forward and backward; lower it to save memory, nothing else changes',
    ),
    schedule: option(
      z.enum(['cosine', 'linear', 'constant', 'warmupStableDecay']).default('constant'),
      'Learning rate schedule after the warm-up, over the iterations',
    ),
    ...kept,
    samples: option(
      z
        .object({
          count: option(count().default(2), 'Responses to show, with their scores'),
          everySteps: option(count().default(1), 'Show them every N iterations'),
        })
        .optional(),
      'Sample events with some responses of a rollout',
    ),
    checkpoints: option(
      z
        .object({
          everySteps: option(count().default(10), 'Save a checkpoint every N iterations'),
          keep: option(count().default(2), 'Newest checkpoints to keep'),
        })
        .optional(),
      'Checkpoints, from which a run resumes exactly (default: every 10 iterations)',
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
    'cannot be combined with warmupSteps: set one of them',
  ),
  noEffect(
    'minLearningRateRatio',
    (_, options) => options.schedule === 'constant',
    "has no effect with schedule 'constant': choose another schedule",
  ),
  noEffect(
    'decayRatio',
    (_, options) => options.schedule !== 'warmupStableDecay',
    "has no effect without schedule 'warmupStableDecay'",
  ),
  ...['checkpoints', 'saveDtype', 'resume', 'overwrite', 'takeLock'].map((name) =>
    noEffect(
      name,
      (given, options) => !given('output') && options[name] !== false,
      'has no effect without output: name a run folder',
    ),
  ),
  noEffect(
    'overwrite',
    (_, options) => options.overwrite === true && options.resume === true,
    'cannot be combined with resume: resume the run in the folder, or replace it',
  ),
  noEffect('saveDtype', (given) => given('lora'), 'has no effect with lora: adapters are saved in float32'),
]

/** Options of PPO, GRPO and RLOO, checked and with defaults filled in. */
export type PolicyOptions = z.output<z.ZodObject<ReturnType<typeof policyFields>>> & {
  batchSize: number
  learningRate: number
}
