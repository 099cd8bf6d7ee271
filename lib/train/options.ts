import * as z from 'zod'
import type { DataSource, Validation } from '../data/read.js'
import type { Template } from '../data/template.js'
import type { CausalLM } from '../models/causal-lm.js'
import { type OptionInput, type OptionSet, option, type ResolvedOptions } from '../options/option.js'
import { trainingConflicts, trainingFields } from '../options/training.js'

const text = (placeholder: string) => ({ placeholder, read: (value: string): unknown => value })
const object = (value: unknown): value is object => value !== null && typeof value === 'object'

const model = option(
  z.custom<CausalLM>(
    (value) => object(value) && 'backward' in value,
    'must be a model, such as CausalLM.load() gives',
  ),
  'Folder of the model to train',
  text('DIR'),
)

/** A path alone, or several sources, each with its weight: `a.jsonl`, `b.jsonl=0.2`. */
function readSources(values: unknown[]): unknown {
  const sources = values.map((value) => {
    const [, path, weight] = /^(.*?)(?:=([\d.]+))?$/.exec(String(value))!
    return { data: path, weight: weight === undefined ? 1 : Number(weight) }
  })
  return values.length === 1 && sources[0]?.data === values[0] ? values[0] : sources
}

const data = option(
  z.custom<DataSource>(
    (value) => (typeof value === 'string' && value !== '') || object(value),
    'must be a path, an array of rows, an async iterable of rows, or a list of { data, weight }',
  ),
  'Rows to train on (.jsonl, .json or .txt); several are mixed, by weight with FILE=WEIGHT',
  { placeholder: 'FILE', read: (value) => value, repeat: true, collect: readSources },
)

const validation = option(
  z
    .custom<Validation>(
      (value) => (typeof value === 'string' && value !== '') || object(value),
      'must be { fraction }, a path, an array of rows or an async iterable of rows',
    )
    .optional(),
  'Rows for the validation loss: a file, or a fraction of the data such as 0.05',
  {
    placeholder: 'FILE|X',
    read: (value) => (Number.isFinite(Number(value)) ? { fraction: Number(value) } : value),
  },
)

const signal = option(
  z.custom<AbortSignal>((value) => value instanceof AbortSignal, 'must be an AbortSignal').optional(),
  'Aborts between two batches',
  false,
)

const onBadRow = option(
  z.enum(['error', 'skip']).default('error'),
  'A row that cannot be read or lacks its fields ends the run, or is left out and counted',
)

/** Options of `sft`: the types, defaults, flags and help of the recipe. */
export const sftOptions = {
  name: 'sft',
  schema: z.object({
    model,
    data,
    validation,
    epochs: option(z.int().min(1).optional(), 'Passes over the data (default: 3)'),
    learningRate: option(
      z.number().gt(0).default(2e-5),
      'Peak of the learning rate; tiny models need 1e-4 to 2e-3',
    ),
    template: option(
      z
        .custom<'chat' | 'plain' | 'alpaca' | (string & {}) | Template>(
          (value) => (typeof value === 'string' && value !== '') || object(value),
          "must be 'chat', 'plain', 'alpaca', the path of a .jinja file, or a template",
        )
        .optional(),
      "How rows become text (default: the model's own chat template, else plain)",
      text('chat|plain|alpaca|FILE.jinja'),
    ),
    trainOn: option(
      z.enum(['assistant', 'lastAssistant', 'all']).default('assistant'),
      'Whose tokens are trained',
    ),
    overflow: option(
      z.enum(['truncate', 'drop', 'error']).default('truncate'),
      'What becomes of a row longer than maxLength',
    ),
    onBadRow,
    ...trainingFields,
    signal,
  }),
  conflicts: trainingConflicts,
} satisfies OptionSet

/** Options of `pretrain`. */
export const pretrainOptions = {
  name: 'pretrain',
  schema: z.object({
    model,
    data,
    validation,
    epochs: option(z.int().min(1).optional(), 'Passes over the data (default: 1)'),
    learningRate: option(z.number().gt(0).default(6e-4), 'Peak of the learning rate'),
    onBadRow,
    ...trainingFields,
    signal,
  }),
  conflicts: trainingConflicts,
} satisfies OptionSet

export type SftOptions = OptionInput<typeof sftOptions>
export type PretrainOptions = OptionInput<typeof pretrainOptions>

/** What the options of all recipes have in common once they are checked and the defaults filled in. */
export type TrainingOptions = Omit<ResolvedOptions<typeof pretrainOptions>, 'epochs'> & { epochs: number }
