import type { CausalLM } from '../models/causal-lm.js'
import { abortSignal, count, isObject, isTextOrObject, text } from '../options/kinds.js'
import { type Conflict, custom, type OptionSet, option, type ResolvedOptions } from '../options/option.js'
import { lazily } from '../options/zod.js'

/** A seed: `instruction` (with `input`), `prompt`, `messages` or `text`; in mode rank, answers to be judged beside it. */
export type SeedRow = Readonly<Record<string, unknown>>

/** Seeds: the path of a data file, a list, or anything that gives rows one after another. */
export type SeedSource = string | readonly SeedRow[] | AsyncIterable<SeedRow>

const MODES = ['answer', 'extend', 'rank'] as const

/** Tasks of `distill`. */
export type DistillMode = (typeof MODES)[number]

/** Options that do something in one mode alone. */
const onlyIn = (mode: 'extend' | 'rank', names: readonly string[]): Conflict[] =>
  names.map((name) => ({
    option: name,
    when: (_, options) => options.mode !== mode,
    because: `has no effect without mode '${mode}'`,
  }))

const endpoint = lazily((z) =>
  z.object({
    model: option(z.string().min(1), 'Name of the model that teaches, at an OpenAI-compatible endpoint'),
    baseUrl: option(
      z
        .string()
        .regex(/^https?:\/\//, 'must begin with http:// or https://')
        .optional(),
      "Address of the endpoint, such as http://localhost:8000/v1 (default: OPENAI_BASE_URL, else OpenAI's)",
      text('URL'),
    ),
    apiKey: option(z.string().min(1).optional(), 'Default: OPENAI_API_KEY', false),
  }),
)

/** Options of `distill`. */
export const distillOptions = {
  name: 'distill',
  schema: lazily((z) =>
    z.object({
      data: option(
        custom<SeedSource>(
          'SeedSource',
          isTextOrObject,
          'must be a path, an array of rows or an async iterable of rows',
        ),
        'Seeds: rows with instruction, prompt or messages, or paragraphs in .txt',
        text('FILE'),
      ),
      output: option(
        z.string().regex(/\.(jsonl|ndjson)$/i, 'must end in .jsonl'),
        'File of the rows made, one JSON object a line',
        text('FILE'),
      ),
      mode: option(
        z.enum(MODES).default('answer'),
        'answer the seeds; extend them by new instructions with answers; rank answers to them',
      ),
      model: option(
        custom<string | CausalLM>(
          'string | CausalLM',
          (value) =>
            (typeof value === 'string' && value !== '') || (isObject(value) && 'chatTemplate' in value),
          'must be a folder, or a model such as CausalLM.load() gives',
        ).optional(),
        'A local model that teaches: a model, its folder, or org/name on the Hub',
        text('DIR', 'Folder of a local model that teaches, or org/name on the Hub'),
      ),
      endpoint: option(endpoint().optional(), 'An OpenAI-compatible endpoint that teaches'),
      count: option(
        count().optional(),
        'extend: new instructions wanted (default: as many as there are seeds)',
      ),
      proposals: option(count().default(4), 'extend: new instructions asked for at once'),
      examples: option(count().default(8), 'extend: instructions shown as examples each time'),
      similarity: option(
        z.number().gt(0).max(1).default(0.7),
        'extend: an instruction whose ROUGE-L with another one reaches this is left out',
      ),
      responses: option(
        z.int().min(2).default(4),
        'rank: answers asked for, where a row brings none of its own',
      ),
      judge: option(
        z.enum(['score', 'rank']).default('score'),
        'rank: the teacher gives each answer a score from 1 to 10, or puts them in order',
      ),
      form: option(
        z.enum(['responses', 'pairs']).default('responses'),
        'rank: rows of prompt + responses, best first, or of prompt + chosen + rejected, the best and the worst',
      ),
      criteria: option(
        z.string().min(1).default('correct, helpful, clear and harmless'),
        'rank: what makes one answer better than another',
      ),
      systemPrompt: option(
        z.string().min(1).optional(),
        'Said to the teacher before each seed that has no system message; not written into the rows',
      ),
      maxNewTokens: option(
        count().default(1024),
        'Tokens of an answer at most; one that is cut off is not taken',
      ),
      temperature: option(
        z.number().min(0).optional(),
        "Of the answers (default: the endpoint's own; 0.7 for a local model)",
      ),
      seed: option(z.int().min(0).default(0), 'Decides the draws and the examples shown'),
      concurrency: option(
        count().default(8),
        'Requests under way at once; of a local model, answers in a batch',
      ),
      retries: option(
        z.int().min(0).default(5),
        'Times that a request that failed, or an answer that is of no use, is asked again',
      ),
      timeoutMs: option(count().max(86_400_000).default(120_000), 'Milliseconds that one request may take'),
      maxFailures: option(
        count().default(10),
        'Stop with an error after so many seeds in a row without a good answer',
      ),
      onBadRow: option(
        z.enum(['error', 'skip']).default('error'),
        'A seed that cannot be read ends the run, or is left out and counted',
      ),
      resume: option(z.boolean().default(false), 'Go on with the rows that are in the output file'),
      overwrite: option(z.boolean().default(false), 'Replace the output file'),
      signal: option(abortSignal(), 'Aborts the requests under way', false),
    }),
  ),
  conflicts: [
    {
      option: 'model',
      when: (given) => given('endpoint'),
      because: 'cannot stand beside endpoint: there is one teacher',
    },
    {
      option: 'timeoutMs',
      when: (given) => !given('endpoint'),
      because: 'has no effect without endpoint',
    },
    ...onlyIn('extend', ['count', 'proposals', 'examples', 'similarity']),
    ...onlyIn('rank', ['responses', 'judge', 'form', 'criteria']),
    {
      option: 'overwrite',
      when: (_, options) => options.overwrite === true && options.resume === true,
      because: 'cannot stand beside resume: go on with the output file, or replace it',
    },
  ],
} satisfies OptionSet

export type ResolvedDistillOptions = ResolvedOptions<typeof distillOptions>
