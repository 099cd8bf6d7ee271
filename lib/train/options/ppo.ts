import type { RewardModel } from '../../models/reward-model.js'
import { count, isModel } from '../../options/kinds.js'
import { custom, type OptionSet, option } from '../../options/option.js'
import { lazily } from '../../options/zod.js'
import { learningRateOption } from './fields.js'
import { noEffect, policyConflicts, policyFields, responses } from './policy.js'

/** Options of `ppo`. */
export const ppoOptions = {
  name: 'ppo',
  schema: lazily((z) =>
    z.object({
      ...policyFields(),
      critic: option(
        custom<RewardModel>(
          'RewardModel',
          (value) => isModel(value) && 'scores' in value,
          'must be a RewardModel',
        ).optional(),
        "Model that initializes the critic (default: the reward model where there is one, else the actor's trunk)",
        false,
      ),
      batchSize: option(responses().default(64), 'Prompts in a rollout; each gets one response'),
      learningRate: learningRateOption(3e-6, 3e-5),
      criticLearningRate: option(
        z.number().gt(0).optional(),
        "Peak learning rate of the critic (default: 10 times the actor's)",
      ),
      criticWarmup: option(
        z.int().min(0).default(0),
        'Iterations at the start in which only the critic is trained',
      ),
      epochs: option(count().default(4), 'Passes over each rollout'),
      miniBatches: option(count().default(1), 'Mini-batches in each pass, one optimizer step each'),
      klCoef: option(z.number().min(0).default(0.05), 'Weight of the KL penalty against the reference'),
      kl: option(
        z
          .object({
            in: option(
              z.enum(['reward', 'loss']).default('reward'),
              'Adds the penalty to the rewards of tokens, or to the loss',
            ),
            estimator: option(
              z.enum(['k1', 'k2', 'k3', 'full']).optional(),
              'Estimator of the KL: k1 or k3 in the reward (default: k1); k2, k3 or full, over the whole vocabulary, in the loss (default: k2)',
            ),
            direction: option(
              z.enum(['reverse', 'forward']).optional(),
              'Direction of estimator full: reverse is KL(actor || reference), forward is KL(reference || actor) (default: reverse)',
            ),
            target: option(
              z.number().gt(0).optional(),
              'Adapt klCoef to hold the mean KL of a response at this, in nats',
            ),
            horizon: option(
              z.number().gt(0).optional(),
              'Horizon of the adaptation, in responses (default: 10000)',
            ),
            limit: option(
              z.number().gt(0).optional(),
              'Stop the run when the mean KL of a response exceeds this, in nats',
            ),
          })
          .optional(),
        'Settings of the KL penalty',
      ),
      clip: option(z.number().gt(0).default(0.2), 'Clip range of the ratio of new to old policy'),
      dualClip: option(
        z.number().gt(1).optional(),
        'Dual clip: caps the loss of negative advantages at this times |A|',
      ),
      valueClip: option(
        z.number().gt(0).default(0.2),
        'Clip range of the values around those before the updates',
      ),
      gamma: option(z.number().min(0).max(1).default(1), 'Discount factor of later rewards, per token'),
      lambda: option(
        z.number().min(0).max(1).default(0.95),
        'Lambda of generalized advantage estimation (GAE)',
      ),
      entropyCoef: option(z.number().min(0).default(0), 'Weight of the entropy bonus'),
      whitenRewards: option(
        z.boolean().default(false),
        'Divide the rewards of tokens by their standard deviation',
      ),
      whitenAdvantages: option(
        z.boolean().default(true),
        'Normalize the advantages of a rollout to mean 0 and standard deviation 1',
      ),
      missingEosPenalty: option(
        z.number().min(0).nullable().optional(),
        'Penalty on the score of a response without a stop token (default: 1 with a reward model, none with functions)',
      ),
      scoreNormalize: option(
        z.boolean().default(false),
        'Normalize scores by their running mean and standard deviation',
      ),
      scoreClip: option(z.number().gt(0).optional(), 'Clip scores to plus or minus this'),
      targetKl: option(
        z.number().gt(0).optional(),
        'Stop the passes over a rollout early when approxKl exceeds this, in nats',
      ),
    }),
  ),
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
