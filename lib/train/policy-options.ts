import * as z from 'zod'
import type { CausalLM } from '../models/causal-lm.js'
import type { RewardModel } from '../models/reward-model.js'
import { type Conflict, type OptionSet, option, type ResolvedOptions } from '../options/option.js'
import { trainingFields } from '../options/training.js'
import type { Reward } from '../rollout/rewards.js'
import { alignmentLora, data, learningRateOption, model, onBadRow, signal, template } from './options.js'

const count = () => z.int().min(1)
const object = (value: unknown): value is object => value !== null && typeof value === 'object'

const {
  epochs: _epochs,
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
} = { ...trainingFields, epochs: undefined }

const reward = option(
  z.custom<Reward>(
    (value) => typeof value === 'function' || object(value),
    'must be a RewardModel, a function over samples, or a list of { reward, weight }',
  ),
  'What answers are worth: the folder of a reward model, or a .js file that exports a function; several with FILE=WEIGHT',
  {
    placeholder: 'DIR|FILE.js',
    read: (text) => text,
    repeat: true,
    collect: (values) => values,
  },
)

const reference = option(
  z.custom<CausalLM>((value) => object(value) && 'backward' in value, 'must be a model').optional(),
  'What the policy is kept near to',
  false,
)

/** Options that PPO, GRPO and RLOO have in common. */
const policyFields = {
  model,
  data,
  reward,
  reference,
  lora: alignmentLora,
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
  rewardTimeoutMs: option(count().default(60_000), 'A reward function that takes longer has failed'),
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
} as const

const klFields = {
  target: option(
    z.number().gt(0).optional(),
    'Adapt klCoef so that the mean KL of an answer comes to this, in nats',
  ),
  horizon: option(z.number().gt(0).optional(), 'Answers over which it adapts (default: 10000)'),
  limit: option(z.number().gt(0).optional(), 'Stop the run when the mean KL of an answer is above this'),
} as const

const noEffect = (name: string, when: Conflict['when'], because: string): Conflict => ({
  option: name,
  when,
  because,
})

const withoutKl: readonly Conflict[] = ['reference', 'klLimit'].map((name) =>
  noEffect(name, (_, options) => options.klCoef === 0, 'has no effect with klCoef 0: no reference is held'),
)

const policyConflicts: readonly Conflict[] = [
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

/** Options of `ppo`. */
export const ppoOptions = {
  name: 'ppo',
  schema: z.object({
    ...policyFields,
    critic: option(
      z
        .custom<RewardModel>((value) => object(value) && 'values' in value, 'must be a RewardModel')
        .optional(),
      'Where the critic starts',
      false,
    ),
    batchSize: option(count().default(64), 'Prompts of a rollout, one answer each'),
    learningRate: learningRateOption(3e-6, 3e-5),
    criticLearningRate: option(z.number().gt(0).optional(), "Of the critic (default: 10 times the actor's)"),
    criticWarmup: option(z.int().min(0).default(0), 'Iterations in which only the critic is trained'),
    epochs: option(count().default(4), 'Passes over each rollout'),
    miniBatches: option(count().default(1), 'Optimizer steps in each pass'),
    klCoef: option(z.number().min(0).default(0.05), 'Weight of the KL penalty against the reference'),
    kl: option(
      z
        .object({
          in: option(z.enum(['reward', 'loss']).default('reward'), 'Part of the rewards, or of the loss'),
          estimator: option(
            z.enum(['k1', 'k2', 'k3', 'full']).optional(),
            'k1 or k3 in the reward (default: k1); k2, k3 or full, over the whole vocabulary, in the loss (default: k2)',
          ),
          direction: option(
            z.enum(['reverse', 'forward']).optional(),
            "Of full: reverse is KL(actor || reference), forward the textbook's KL(reference || actor) (default: reverse)",
          ),
          ...klFields,
        })
        .optional(),
      'The KL penalty',
    ),
    clip: option(z.number().gt(0).default(0.2), 'Range of the ratio of new to old policy'),
    dualClip: option(z.number().gt(1).optional(), 'Bounds the loss of bad answers at this times |A|'),
    valueClip: option(z.number().gt(0).default(0.2), "Range of the critic's change in one iteration"),
    gamma: option(z.number().min(0).max(1).default(1), 'Discount of later rewards'),
    lambda: option(z.number().min(0).max(1).default(0.95), 'Of generalised advantage estimation'),
    entropyCoef: option(z.number().min(0).default(0), 'Weight of an entropy bonus'),
    whitenRewards: option(z.boolean().default(false), 'Divide rewards by their standard deviation'),
    whitenAdvantages: option(
      z.boolean().default(true),
      'Advantages of a rollout with mean 0 and deviation 1',
    ),
    missingEosPenalty: option(
      z.number().min(0).nullable().optional(),
      'Taken off the score of an answer that did not end (default: 1 with a reward model, none with functions)',
    ),
    scoreNormalize: option(z.boolean().default(false), 'Scores minus their running mean, by their deviation'),
    scoreClip: option(z.number().gt(0).optional(), 'Bounds scores at plus and minus this'),
    targetKl: option(
      z.number().gt(0).optional(),
      'End the passes over a rollout when approxKl is above this',
    ),
  }),
  conflicts: [
    ...policyConflicts,
    noEffect(
      'kl.direction',
      (_, options) => (options.kl as { estimator?: string } | undefined)?.estimator !== 'full',
      'has no effect without kl.estimator full',
    ),
    ...['in', 'estimator', 'target'].map((name) =>
      noEffect(
        `kl.${name}`,
        (_, options) => options.klCoef === 0,
        'has no effect with klCoef 0: there is no KL penalty',
      ),
    ),
    noEffect(
      'criticWarmup',
      (given, options) =>
        given('iterations') && (options.criticWarmup as number) >= (options.iterations as number),
      'must be less than iterations, or the actor is never trained',
    ),
    noEffect('kl.horizon', (given) => !given('kl.target'), 'has no effect without kl.target'),
    noEffect(
      'kl.target',
      (_, options) => (options.kl as { in?: string } | undefined)?.in === 'loss',
      "has no effect with kl.in 'loss', whose weight is fixed",
    ),
    noEffect(
      'kl.estimator',
      (_, options) => {
        const { in: where, estimator } = options.kl as { in: string; estimator?: string }
        return where === 'reward' ? estimator === 'k2' || estimator === 'full' : estimator === 'k1'
      },
      "must be k1 or k3 with kl.in 'reward', and k2, k3 or full with kl.in 'loss'",
    ),
  ],
} satisfies OptionSet

const groupFields = {
  ...policyFields,
  batchSize: option(count().default(8), 'Prompts of a rollout, a group of answers each'),
  epochs: option(count().default(1), 'Passes over each rollout'),
  miniBatches: option(count().default(1), 'Optimizer steps in each pass'),
  learningRate: learningRateOption(1e-6, 1e-5),
  klLimit: option(z.number().gt(0).optional(), 'Stop the run when the mean KL of an answer is above this'),
} as const

/** Options of `grpo`. */
export const grpoOptions = {
  name: 'grpo',
  schema: z.object({
    ...groupFields,
    groupSize: option(z.int().min(2).default(8), 'Answers to each prompt'),
    klCoef: option(
      z.number().min(0).default(0),
      'Weight of the KL penalty in the loss (beta); 0 needs no reference',
    ),
    clipLow: option(z.number().gt(0).default(0.2), 'How far the ratio may fall below 1'),
    clipHigh: option(z.number().gt(0).default(0.2), 'How far it may rise above 1'),
    scaleRewards: option(
      z.enum(['group', 'batch', 'none']).optional(),
      'Advantages by the standard deviation of their group, of all rewards, or of nothing (default: group; none with reduction drGrpo)',
    ),
    reduction: option(
      z.enum(['dapo', 'grpo', 'bnpo', 'drGrpo']).default('dapo'),
      'What the loss is a mean over: tokens of the step (dapo), answers (grpo), tokens of a batch (bnpo), or the longest answers there may be (drGrpo)',
    ),
    maskTruncated: option(z.boolean().default(false), 'Answers that ran into maxNewTokens teach nothing'),
    overlongTokens: option(
      count().optional(),
      'The last N tokens before maxNewTokens cost up to 1 of the score, in a line (DAPO)',
    ),
  }),
  conflicts: [
    ...policyConflicts,
    noEffect(
      'scaleRewards',
      (_, options) => options.reduction === 'drGrpo' && options.scaleRewards !== 'none',
      "must be none with reduction 'drGrpo'",
    ),
    ...withoutKl,
    noEffect(
      'overlongTokens',
      (_, options) => (options.overlongTokens as number) >= (options.maxNewTokens as number),
      'must be less than maxNewTokens',
    ),
  ],
} satisfies OptionSet

/** Options of `rloo`. */
export const rlooOptions = {
  name: 'rloo',
  schema: z.object({
    ...groupFields,
    groupSize: option(z.int().min(2).default(4), 'Answers to each prompt'),
    klCoef: option(z.number().min(0).default(0.05), 'Weight of the KL of an answer in its reward'),
    clip: option(z.number().gt(0).default(0.2), "Range of the ratio of an answer's new to old probability"),
    normalizeAdvantages: option(
      z.boolean().default(false),
      'Advantages of a rollout with mean 0 and deviation 1',
    ),
  }),
  conflicts: [...policyConflicts, ...withoutKl],
} satisfies OptionSet

/** What the three have in common once checked. */
export type PolicyOptions = Omit<
  ResolvedOptions<typeof rlooOptions>,
  'learningRate' | 'groupSize' | 'clip'
> & {
  learningRate: number
}
