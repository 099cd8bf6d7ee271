import { count } from '../../options/kinds.js'
import { type Conflict, type OptionSet, option } from '../../options/option.js'
import { lazily } from '../../options/zod.js'
import { learningRateOption } from './fields.js'
import { noEffect, policyConflicts, policyFields } from './policy.js'

const groupFields = lazily((z) => ({
  ...policyFields(),
  batchSize: option(count().default(8), 'Prompts of a rollout, a group of answers each'),
  epochs: option(count().default(1), 'Passes over each rollout'),
  miniBatches: option(count().default(1), 'Optimizer steps in each pass'),
  learningRate: learningRateOption(1e-6, 1e-5),
  klLimit: option(
    z.number().gt(0).optional(),
    'Stop the run when the mean KL of an answer is above this, in nats',
  ),
}))

const withoutKl: readonly Conflict[] = ['reference', 'klLimit'].map((name) =>
  noEffect(name, (_, options) => options.klCoef === 0, 'has no effect with klCoef 0: no reference is held'),
)

/** Options of `grpo`. */
export const grpoOptions = {
  name: 'grpo',
  schema: lazily((z) =>
    z.object({
      ...groupFields(),
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
  ),
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
  schema: lazily((z) =>
    z.object({
      ...groupFields(),
      groupSize: option(z.int().min(2).default(4), 'Answers to each prompt'),
      klCoef: option(z.number().min(0).default(0.05), 'Weight of the KL of an answer in its reward'),
      clip: option(z.number().gt(0).default(0.2), "Range of the ratio of an answer's new to old probability"),
      normalizeAdvantages: option(
        z.boolean().default(false),
        'Advantages of a rollout with mean 0 and deviation 1',
      ),
    }),
  ),
  conflicts: [...policyConflicts, ...withoutKl],
} satisfies OptionSet
