import type { CausalLM } from '../models/causal-lm.js'
import { abortSignal, count, isObject, isRows, path, templateArguments, text } from '../options/kinds.js'
import { type Conflict, custom, type OptionSet, option, type ResolvedOptions } from '../options/option.js'
import { lazily } from '../options/zod.js'

/** A seed: `instruction` (with `input`), `prompt`, `messages` or `text`; in mode rank, optional answers to judge. */
export type SeedRow = Readonly<Record<string, unknown>>

/** Seeds: the path of a data file, an array of rows, or an async iterable of rows. */
export type SeedSource = string | readonly SeedRow[] | AsyncIterable<SeedRow>

const MODES = ['answer', 'extend', 'rank'] as const

/** Tasks of `distill`. */
export type DistillMode = (typeof MODES)[number]

/** Conflicts of options that apply to one mode only. */
const onlyIn = (mode: 'extend' | 'rank', names: readonly string[]): Conflict[] =>
  names.map((name) => ({
    option: name,
    when: (_, options) => options.mode !== mode,
    because: `has no effect without mode '${mode}'`,
  }))

const endpoint = lazily((z) =>
  z.object({
    model: option(z.string().min(1), 'Teacher model name at the OpenAI-compatible endpoint'),
    baseUrl: option(
      z
        .string()
        .regex(/^https?:\/\//, 'must begin with http:// or https://')
        .optional(),
      "Base URL of the endpoint, such as http://localhost:8000/v1 (default: OPENAI_BASE_URL, else OpenAI's)",
      text('URL'),
    ),
    apiKey: option(z.string().min(1).optional(), 'API key of the endpoint (default: OPENAI_API_KEY)', false),
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
          isRows,
          'must be a path, an array of rows or an async iterable of rows',
        ),
        'Seeds: rows with instruction, prompt or messages, or paragraphs of a .txt file',
        text('FILE'),
      ),
      output: option(
        path().regex(/\.(jsonl|ndjson)$/i, 'must end in .jsonl'),
        'Output file of rows, one JSON object per line',
        text('FILE'),
      ),
      mode: option(
        z.enum(MODES).default('answer'),
        'answer: answer the seeds; extend: write new instructions and answer them (self-instruct); rank: rank answers into preference data',
      ),
      model: option(
        custom<string | CausalLM>(
          'string | CausalLM',
          (value) =>
            (typeof value === 'string' && value !== '') || (isObject(value) && 'chatTemplate' in value),
          'must be a folder, or a model from CausalLM.load()',
        ).optional(),
        'Local teacher: a model, its folder, or org/name on the Hub',
        text('DIR', 'Local teacher model: its folder, or org/name on the Hub'),
      ),
      endpoint: option(endpoint().optional(), 'OpenAI-compatible endpoint of the teacher'),
      count: option(count().optional(), 'extend: number of new instructions (default: the number of seeds)'),
      proposals: option(count().default(4), 'extend: new instructions per request'),
      examples: option(count().default(8), 'extend: instructions shown as examples per request'),
      similarity: option(
        z.number().gt(0).max(1).default(0.7),
        'extend: discard a new instruction whose ROUGE-L with an existing one reaches this',
      ),
      responses: option(z.int().min(2).default(4), 'rank: answers generated per seed, where a row has none'),
      judge: option(
        z.enum(['score', 'rank']).default('score'),
        'rank: the teacher scores each answer from 1 to 10, or ranks them',
      ),
      form: option(
        z.enum(['responses', 'pairs']).default('responses'),
        'rank: rows of prompt + responses, best first, or of prompt + chosen (best) + rejected (worst)',
      ),
      criteria: option(
        z.string().min(1).default('correct, helpful, clear and harmless'),
        'rank: criteria by which the teacher judges answers',
      ),
      systemPrompt: option(
        z.string().min(1).optional(),
        'System prompt for seeds that have none; not written into the rows',
      ),
      templateArguments: templateArguments(
        "Further variables of the teacher's chat template, such as { enable_thinking: false }; an endpoint gets them as chat_template_kwargs, as vLLM and SGLang read them; a row has its own in a column of that name",
      ),
      maxNewTokens: option(
        count().default(1024),
        'Maximum tokens of an answer; truncated answers are discarded',
      ),
      temperature: option(
        z.number().min(0).optional(),
        "Sampling temperature of the answers (default: the endpoint's own; 0.7 for a local model)",
      ),
      seed: option(z.int().min(0).default(0), 'Random seed of sampling and of the choice of examples'),
      concurrency: option(
        count().default(8),
        'Concurrent requests; for a local model, the generation batch size',
      ),
      retries: option(z.int().min(0).default(5), 'Retries after a failed request or an unusable answer'),
      timeoutMs: option(count().max(86_400_000).default(120_000), 'Timeout of one request in milliseconds'),
      maxFailures: option(
        count().default(10),
        'Stop with an error after this many seeds in a row without a usable answer',
      ),
      onBadRow: option(
        z.enum(['error', 'skip']).default('error'),
        'What to do with an unreadable seed: fail, or skip and count it',
      ),
      resume: option(z.boolean().default(false), 'Resume from the rows in the output file'),
      overwrite: option(z.boolean().default(false), 'Replace the output file'),
      signal: option(abortSignal(), 'Aborts pending requests', false),
    }),
  ),
  conflicts: [
    {
      option: 'model',
      when: (given) => given('endpoint'),
      because: 'cannot be combined with endpoint: a run has one teacher',
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
      because: 'cannot be combined with resume: continue the output file, or replace it',
    },
  ],
} satisfies OptionSet

export type ResolvedDistillOptions = ResolvedOptions<typeof distillOptions>
