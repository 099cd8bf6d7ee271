import type { Template } from '../data/text/template.js'
import { abortSignal, templateArguments, templateOption } from '../options/kinds.js'
import { type Conflict, type OptionSet, option } from '../options/option.js'
import { lazily } from '../options/zod.js'

/** Sampling options, which change nothing in greedy decoding. */
const idleWhenGreedy: Conflict[] = ['topK', 'topP', 'minP', 'seed'].map((name) => ({
  option: name,
  when: (_, options) => options.temperature === 0 && options[name] !== (name === 'topP' ? 1 : 0),
  because: 'has no effect at temperature 0: set a temperature above 0',
}))

const idleInTurns: Conflict = {
  option: 'rendered',
  when: (given, { template }) => given('rendered') && template !== undefined && template !== 'none',
  because: 'has no effect with a template, which renders the prompts itself: leave one of them out',
}

/** Options of `generate`, `stream` and `chat`. */
export const generateOptions = {
  name: 'generate',
  schema: lazily((z) =>
    z.object({
      maxNewTokens: option(z.int().min(1).default(64), 'Maximum length of a completion, in tokens'),
      temperature: option(
        z.number().min(0).default(0),
        'Sampling temperature; 0 takes the most probable token (greedy)',
      ),
      topK: option(z.int().min(0).default(0), 'Sample among the K most probable tokens; 0: off'),
      topP: option(
        z.number().gt(0).max(1).default(1),
        'Sample among the fewest tokens whose probability reaches this; 1: off',
      ),
      minP: option(
        z.number().min(0).max(1).default(0),
        "Drop tokens below this fraction of the most probable one's probability; 0: off",
      ),
      repetitionPenalty: option(
        z.number().gt(0).default(1),
        'Above 1 makes repeated tokens less likely; 1: off',
      ),
      seed: option(z.int().min(0).default(0), 'Seed of the sampling'),
      template: templateOption<Template>(
        "Template that puts texts in a user turn and renders messages; by default, and with none, texts are taken as they are, and messages are rendered by the model's chat template",
      ),
      templateArguments: templateArguments(
        'Further variables of the chat template, such as { enable_thinking: false }, for messages and for texts that a template puts in a turn',
      ),
      rendered: option(
        z.boolean().default(true),
        'Texts are rendered already, as Template.prompt() renders them: marks of special tokens in them are special tokens; false reads the marks as text, as training reads a raw prompt',
      ),
      stop: option(
        z
          .union([z.string().min(1), z.array(z.string().min(1)).readonly()], {
            error: 'must be a text, or a list of texts, none of them empty',
          })
          .optional(),
        'Text that ends a completion and is cut off',
        { placeholder: 'TEXT', read: (text) => text, repeat: true },
      ),
      stopIds: option(
        z.array(z.int().min(0)).readonly().optional(),
        "Token ids that end a completion (default: the model's own)",
      ),
      batchSize: option(
        z.int().min(1).default(64),
        'Prompts that are decoded together; where one ends, the next takes its place',
      ),
      logProbs: option(z.boolean().default(false), 'Return the log-probability of each token'),
      signal: option(abortSignal(), 'Aborts between two tokens', false),
    }),
  ),
  conflicts: [...idleWhenGreedy, idleInTurns],
} satisfies OptionSet
