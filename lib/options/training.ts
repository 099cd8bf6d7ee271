import { count, text } from './kinds.js'
import { type Conflict, option } from './option.js'
import { lazily } from './zod.js'

/** Options that every recipe of supervised training has and that are plain values. */
export const trainingFields = lazily((z) => ({
  output: option(
    z.string().optional(),
    'Run folder: config, metrics, checkpoints and the trained model',
    text('DIR'),
  ),
  maxSteps: option(count().optional(), 'Optimizer steps in all, instead of epochs'),
  batchSize: option(count().optional(), 'Sequences in a batch (default: 8)'),
  batchTokens: option(count().optional(), 'Tokens in a batch at most, instead of a number of sequences'),
  gradientAccumulation: option(count().default(1), 'Batches in one optimizer step'),
  maxLength: option(
    z.int().min(2).optional(),
    "Tokens of one sequence at most (default: 1024, or the model's context where that is less)",
  ),
  schedule: option(
    z.enum(['cosine', 'linear', 'constant', 'warmupStableDecay']).default('cosine'),
    'How the learning rate falls after the warm-up',
  ),
  warmupSteps: option(z.int().min(0).optional(), 'Steps in which the learning rate rises from 0'),
  warmupRatio: option(z.number().min(0).max(1).optional(), 'The same as a fraction of all steps'),
  minLearningRateRatio: option(
    z.number().min(0).max(1).default(0),
    'Where the schedule ends, as a fraction of the learning rate',
  ),
  decayRatio: option(
    z.number().gt(0).max(1).optional(),
    'warmupStableDecay: fraction of the steps in which the learning rate falls (default: 0.2)',
  ),
  beta1: option(z.number().min(0).lt(1).default(0.9), 'AdamW: decay of the first moment'),
  beta2: option(z.number().min(0).lt(1).default(0.999), 'AdamW: decay of the second moment'),
  epsilon: option(z.number().gt(0).default(1e-8), 'AdamW: added to the root of the second moment'),
  weightDecay: option(z.number().min(0).default(0), 'AdamW: decoupled weight decay, on matrices only'),
  maxGradNorm: option(z.number().min(0).default(1), 'Gradients are clipped to this global L2 norm; 0: off'),
  shuffle: option(z.boolean().default(true), 'Another order of the rows in every epoch, from the seed'),
  seed: option(
    z.int().min(0).default(0),
    'Decides the order of the data, the validation rows and the samples',
  ),
  evaluation: option(
    z
      .object({
        everySteps: option(count().optional(), 'Evaluate every N steps (default: at the end of each epoch)'),
      })
      .optional(),
    'Loss and perplexity on the validation rows',
  ),
  earlyStopping: option(
    z
      .object({
        patience: option(count().optional(), 'Stop after N evaluations without a better loss (default: 3)'),
        minDelta: option(
          z.number().min(0).default(0),
          'A loss counts as better when it is lower by more than this',
        ),
      })
      .optional(),
    'Stop when the validation loss no longer falls, and keep the best weights',
  ),
  samples: option(
    z
      .object({
        prompts: option(z.array(z.string()).min(1), 'Prompts answered during the training'),
        everySteps: option(
          count().optional(),
          'Answer them every N steps (default: at the end of each epoch)',
        ),
        maxNewTokens: option(count().default(64), 'Tokens of an answer at most'),
        temperature: option(z.number().min(0).default(0), 'Of the answers; 0 takes the most probable token'),
      })
      .optional(),
    'Generations during the training',
  ),
  checkpoints: option(
    z
      .object({
        everySteps: option(
          count().optional(),
          'Save a checkpoint every N steps (default: at the end of each epoch)',
        ),
        keep: option(count().default(2), 'Newest checkpoints kept; the best one is kept besides'),
      })
      .optional(),
    'From which a run resumes exactly',
  ),
  maxSkippedSteps: option(
    count().default(3),
    'Stop with an error after so many steps in a row whose loss or gradient is not finite',
  ),
  activationCheckpointing: option(
    z.boolean().default(false),
    'Keep only the input of each block and compute it again in the backward: less memory, a third more time',
  ),
  saveDtype: option(
    z.enum(['float32', 'bfloat16', 'float16']).optional(),
    'Of the saved model (default: that of the weights in memory)',
  ),
  resume: option(z.boolean().default(false), 'Go on from the newest checkpoint in the run folder'),
  overwrite: option(z.boolean().default(false), 'Replace the run that is in the run folder'),
}))

/** Combinations in which an option would do nothing. */
export const trainingConflicts: readonly Conflict[] = [
  {
    option: 'maxSteps',
    when: (given) => given('epochs'),
    because: 'cannot stand beside epochs: give one of them',
  },
  {
    option: 'batchTokens',
    when: (given) => given('batchSize'),
    because: 'cannot stand beside batchSize: give one of them',
  },
  {
    option: 'warmupRatio',
    when: (given) => given('warmupSteps'),
    because: 'cannot stand beside warmupSteps: give one of them',
  },
  {
    option: 'minLearningRateRatio',
    when: (_, options) => options.schedule === 'constant',
    because: "has no effect with schedule 'constant': leave it out or take another schedule",
  },
  {
    option: 'decayRatio',
    when: (_, options) => options.schedule !== 'warmupStableDecay',
    because: "has no effect without schedule 'warmupStableDecay'",
  },
  ...['evaluation', 'earlyStopping'].map((name) => ({
    option: name,
    when: (given: (path: string) => boolean) => !given('validation'),
    because: 'has no effect without validation: give validation rows, or a fraction of the data',
  })),
  ...['earlyStopping', 'checkpoints', 'saveDtype', 'resume', 'overwrite'].map((name) => ({
    option: name,
    when: (given: (path: string) => boolean, options: Record<string, unknown>) =>
      !given('output') && options[name] !== false,
    because: 'has no effect without output: name a run folder',
  })),
  {
    option: 'overwrite',
    when: (_, options) => options.overwrite === true && options.resume === true,
    because: 'cannot stand beside resume: go on with the run in the folder, or replace it',
  },
]

/** The same for recipes that have `lora`. */
export const loraConflicts: readonly Conflict[] = [
  {
    option: 'saveDtype',
    when: (given) => given('lora'),
    because: 'has no effect with lora: adapters are saved in float32',
  },
  {
    option: 'lora.dropout',
    when: (given) => given('lora.dora'),
    because: 'cannot stand beside lora.dora',
  },
]
