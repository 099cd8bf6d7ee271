import { abortSignal } from './kinds.js'
import { type Conflict, type OptionSet, option, type ResolvedOptions } from './option.js'
import { lazily } from './zod.js'

/** Without draws there is nothing that these could change. */
const idleWhenGreedy: Conflict[] = ['topK', 'topP', 'minP', 'seed'].map((name) => ({
  option: name,
  when: (_, options) => options.temperature === 0 && options[name] !== (name === 'topP' ? 1 : 0),
  because: 'has no effect at temperature 0: set a temperature above 0',
}))

/** Options of `generate`, `stream` and `chat`. */
export const generateOptions = {
  name: 'generate',
  schema: lazily((z) =>
    z.object({
      maxNewTokens: option(z.int().min(1).default(64), 'Tokens of an answer at most'),
      temperature: option(z.number().min(0).default(0), '0 takes the most probable token'),
      topK: option(z.int().min(0).default(0), 'Draw among the K most probable tokens; 0: off'),
      topP: option(
        z.number().gt(0).max(1).default(1),
        'Draw among the fewest tokens whose probability reaches this; 1: off',
      ),
      minP: option(
        z.number().min(0).max(1).default(0),
        "Leave out tokens below this fraction of the most probable one's probability; 0: off",
      ),
      repetitionPenalty: option(
        z.number().gt(0).default(1),
        'Above 1 makes tokens that were already there less likely; 1: off',
      ),
      seed: option(z.int().min(0).default(0), 'Decides the draws'),
      stop: option(
        z
          .union([z.string().min(1), z.array(z.string().min(1)).readonly()], {
            error: 'must be a text, or a list of texts, none of them empty',
          })
          .optional(),
        'Text that ends an answer and is cut off',
        { placeholder: 'TEXT', read: (text) => text, repeat: true },
      ),
      stopIds: option(
        z.array(z.int().min(0)).readonly().optional(),
        "Token ids that end an answer (default: the model's own)",
      ),
      logProbs: option(z.boolean().default(false), 'Give the log-probability of each token'),
      signal: option(abortSignal(), 'Aborts between two tokens', false),
    }),
  ),
  conflicts: idleWhenGreedy,
} satisfies OptionSet

export type ResolvedGenerateOptions = ResolvedOptions<typeof generateOptions>
