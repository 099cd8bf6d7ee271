import { count } from '../../options/kinds.js'
import { type Conflict, type OptionSet, option } from '../../options/option.js'
import { lazily } from '../../options/zod.js'
import { learningRateOption } from './fields.js'
import { noEffect, policyConflicts, policyFields, responses } from './policy.js'

const groupFields = lazily((z) => ({
  ...policyFields(),
  batchSize: option(responses().default(8), 'Prompts in a rollout; each gets groupSize responses'),
  epochs: option(count().default(1), 'Passes over each rollout'),
  miniBatches: option(count().default(1), 'Mini-batches in each pass, one optimizer step each'),
  learningRate: learningRateOption(1e-6, 1e-5),
  klLimit: option(
    z.number().gt(0).optional(),
    'Stop the run when the mean KL of a response exceeds this, in nats',
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
      groupSize: option(responses(2).default(8), 'Responses to each prompt'),
      klCoef: option(
        z.number().min(0).default(0),
        'Weight of the KL penalty in the loss (beta); 0 needs no reference',
      ),
      clipLow: option(z.number().gt(0).default(0.2), 'Clips the ratio of new to old policy at 1 - clipLow'),
      clipHigh: option(z.number().gt(0).default(0.2), 'Clips the ratio of new to old policy at 1 + clipHigh'),
      scaleRewards: option(
        z.enum(['group', 'batch', 'none']).optional(),
        'Divide advantages by the standard deviation of rewards in their group, in the batch, or not at all (default: group; none with reduction drGrpo)',
      ),
      reduction: option(
        z.enum(['dapo', 'grpo', 'bnpo', 'drGrpo']).default('dapo'),
        'Loss normalization: mean over the tokens of the step (dapo), of per-response means (grpo), over the tokens of a batch (bnpo), or sum by responses * maxNewTokens (drGrpo)',
      ),
      maskTruncated: option(
        z.boolean().default(false),
        'Leave responses truncated at maxNewTokens out of the loss',
      ),
      overlongTokens: option(
        count().optional(),
        'Soft overlong punishment: the last N tokens before maxNewTokens lower the score linearly, by up to 1 (DAPO)',
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
      groupSize: option(responses(2).default(4), 'Responses to each prompt'),
      klCoef: option(z.number().min(0).default(0.05), 'Weight of the KL penalty in the reward of a response'),
      clip: option(
        z.number().gt(0).default(0.2),
        'Clip range of the ratio of new to old policy, one ratio per response',
      ),
      normalizeAdvantages: option(
        z.boolean().default(false),
        'Normalize the advantages of a rollout to mean 0 and standard deviation 1',
      ),
    }),
  ),
  conflicts: [...policyConflicts, ...withoutKl],
} satisfies OptionSet
