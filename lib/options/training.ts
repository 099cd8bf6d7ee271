import { count, path, text } from './kinds.js'
import { type Conflict, option } from './option.js'
import { lazily } from './zod.js'

/** The learning rate over a run, AdamW and clipping. */
const optimizerFields = lazily((z) => ({
  schedule: option(
    z.enum(['cosine', 'linear', 'constant', 'warmupStableDecay']).default('cosine'),
    'Learning rate schedule after the warm-up',
  ),
  warmupSteps: option(z.int().min(0).optional(), 'Steps of linear warm-up of the learning rate from 0'),
  warmupRatio: option(z.number().min(0).max(1).optional(), 'Warm-up as a fraction of all steps'),
  minLearningRateRatio: option(
    z.number().min(0).max(1).default(0),
    'Final learning rate as a fraction of its peak',
  ),
  decayRatio: option(
    z.number().gt(0).max(1).optional(),
    'warmupStableDecay: fraction of all steps that the decay takes (default: 0.2)',
  ),
  optimizer: option(
    z.enum(['adamw', 'adamw16bit', 'adamw8bit']).default('adamw'),
    'adamw8bit keeps the moments of AdamW in 8 bits, a quarter of their memory, those of embeddings in 32; adamw16bit keeps all in bfloat16, half of their memory',
  ),
  beta1: option(z.number().min(0).lt(1).default(0.9), 'AdamW: decay rate of the first moment'),
  beta2: option(z.number().min(0).lt(1).default(0.999), 'AdamW: decay rate of the second moment'),
  epsilon: option(z.number().gt(0).default(1e-8), 'AdamW: added to the root of the second moment'),
  weightDecay: option(z.number().min(0).default(0), 'AdamW: decoupled weight decay, of matrices only'),
  maxGradNorm: option(
    z.number().min(0).default(1),
    'Global L2 norm at which gradients are clipped; 0 turns it off',
  ),
}))

/** Options of every supervised recipe that are plain values. */
export const trainingFields = lazily((z) => ({
  output: option(
    path().optional(),
    'Run folder: config, metrics, checkpoints and the trained model',
    text('DIR'),
  ),
  maxSteps: option(count().optional(), 'Total number of optimizer steps, instead of epochs'),
  batchSize: option(count().optional(), 'Sequences per batch (default: 8)'),
  batchTokens: option(count().optional(), 'Maximum tokens per batch, instead of a number of sequences'),
  gradientAccumulation: option(count().default(1), 'Batches per optimizer step'),
  maxLength: option(
    z.int().min(2).optional(),
    "Maximum length of a sequence, in tokens (default: 1024, or the model's context where that is less)",
  ),
  ...optimizerFields(),
  shuffle: option(z.boolean().default(true), 'Shuffle the rows in every epoch, by the seed'),
  seed: option(
    z.int().min(0).default(0),
    'Random seed of the data order, the validation split, new adapters, dropout and sampling',
  ),
  evaluation: option(
    z
      .object({
        everySteps: option(count().optional(), 'Evaluate every N steps (default: at the end of each epoch)'),
      })
      .optional(),
    'Evaluation of the loss and metrics on the validation rows',
  ),
  earlyStopping: option(
    z
      .object({
        patience: option(
          count().optional(),
          'Stop after N evaluations in a row without a lower loss (default: 3)',
        ),
        minDelta: option(
          z.number().min(0).default(0),
          'A loss must fall by more than this to count as lower',
        ),
      })
      .optional(),
    'Stop when the validation loss no longer falls',
    true,
  ),
  keep: option(
    z.enum(['best', 'last']).default('best'),
    'Weights saved as the trained model: those of the lowest validation loss, or those of the last step; without validation always the last',
  ),
  samples: option(
    z
      .object({
        prompts: option(z.array(z.string()).min(1), 'Prompts to complete during training'),
        everySteps: option(
          count().optional(),
          'Complete them every N steps (default: at the end of each epoch)',
        ),
        maxNewTokens: option(count().default(64), 'Maximum length of a completion, in tokens'),
        temperature: option(
          z.number().min(0).default(0),
          'Sampling temperature; 0 takes the most probable token (greedy)',
        ),
      })
      .optional(),
    'Sample events with completions during training',
  ),
  checkpoints: option(
    z
      .object({
        everySteps: option(
          count().optional(),
          'Save a checkpoint every N steps (default: at the end of each epoch)',
        ),
        keep: option(count().default(2), 'Newest checkpoints to keep; the best one is kept as well'),
      })
      .optional(),
    'Checkpoints, from which a run resumes exactly',
  ),
  maxSkippedSteps: option(
    count().default(3),
    'Fail after this many steps in a row with a loss or gradient that is not finite',
  ),
  activationCheckpointing: option(
    z.boolean().default(false),
    'Keep only the input of each block and recompute the block in the backward: less memory, a third more time',
  ),
  saveDtype: option(
    z.enum(['float32', 'bfloat16', 'float16']).optional(),
    'Precision of the saved model (default: that of the weights in memory)',
  ),
  resume: option(z.boolean().default(false), 'Resume from the newest checkpoint in the run folder'),
  overwrite: option(z.boolean().default(false), 'Replace the run in the run folder'),
  takeLock: option(
    z.boolean().default(false),
    'Take the run folder at once from a run of another host, container or thread, without looking whether it lives: two runs would spoil each other; without it that is done a minute after its last sign of life',
  ),
}))

/** Combinations in which an option would have no effect. */
export const trainingConflicts: readonly Conflict[] = [
  {
    option: 'maxSteps',
    when: (given) => given('epochs'),
    because: 'cannot be combined with epochs: set one of them',
  },
  {
    option: 'batchTokens',
    when: (given) => given('batchSize'),
    because: 'cannot be combined with batchSize: set one of them',
  },
  {
    option: 'warmupRatio',
    when: (given) => given('warmupSteps'),
    because: 'cannot be combined with warmupSteps: set one of them',
  },
  {
    option: 'minLearningRateRatio',
    when: (_, options) => options.schedule === 'constant',
    because: "has no effect with schedule 'constant': leave it out or choose another schedule",
  },
  {
    option: 'decayRatio',
    when: (_, options) => options.schedule !== 'warmupStableDecay',
    because: "has no effect without schedule 'warmupStableDecay'",
  },
  ...['evaluation', 'earlyStopping', 'keep'].map((name) => ({
    option: name,
    when: (given: (path: string) => boolean) => !given('validation'),
    because: 'has no effect without validation: give validation rows, or a fraction of the data',
  })),
  ...['earlyStopping', 'keep', 'checkpoints', 'saveDtype', 'resume', 'overwrite', 'takeLock'].map((name) => ({
    option: name,
    when: (given: (path: string) => boolean, options: Record<string, unknown>) =>
      !given('output') && options[name] !== false,
    because: 'has no effect without output: name a run folder',
  })),
  {
    option: 'overwrite',
    when: (_, options) => options.overwrite === true && options.resume === true,
    because: 'cannot be combined with resume: resume the run in the folder, or replace it',
  },
]

/** Conflicts of recipes that have `lora`. */
export const loraConflicts: readonly Conflict[] = [
  {
    option: 'saveDtype',
    when: (given) => given('lora'),
    because: 'has no effect with lora: adapters are saved in float32',
  },
  {
    option: 'lora.dropout',
    when: (given) => given('lora.dora'),
    because: 'cannot be combined with lora.dora',
  },
]
