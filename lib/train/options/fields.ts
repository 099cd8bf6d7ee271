import { ENDINGS_TEXT } from '../../data/formats/index.js'
import type { DataSource, PromptSource, Validation } from '../../data/sources.js'
import type { CausalLM } from '../../models/causal-lm.js'
import { loraFields } from '../../models/lora.js'
import { abortSignal, isModel, isObject, isRows, text } from '../../options/kinds.js'
import {
  custom,
  type FlagReader,
  type OptionSet,
  option,
  type ResolvedOptions,
} from '../../options/option.js'
import { loraConflicts, trainingConflicts, trainingFields } from '../../options/training.js'
import { lazily, zod } from '../../options/zod.js'
import { reasoningOption, renderingFields } from './rendering.js'

/** One path, or several sources with their weights: `a.jsonl`, `b.jsonl=0.2`. */
function readSources(values: unknown[]): unknown {
  const sources = values.map((value) => {
    const [, path, weight] = /^(.*?)(?:=([\d.]+))?$/.exec(String(value))!
    return { data: path, weight: weight === undefined ? 1 : Number(weight) }
  })
  return values.length === 1 && sources[0]?.data === values[0] ? values[0] : sources
}

const NO_DATA = 'must be a path, an array of rows, an async iterable of rows, or a list of { data, weight }'
const DATA_FLAG: FlagReader = {
  placeholder: 'FILE',
  read: (value) => value,
  repeat: true,
  collect: readSources,
  help: `Rows to train on (${ENDINGS_TEXT}); several files are mixed, weighted by FILE=WEIGHT`,
}

/** `data` of PPO, GRPO and RLOO, whose reward functions see the columns of the rows. */
export const promptsOption = () =>
  option(
    custom<PromptSource>('PromptSource<Row>', isRows, NO_DATA),
    `Rows with a prompt: a file (${ENDINGS_TEXT}), rows, or a weighted mix of sources`,
    DATA_FLAG,
  )

const LORA_TEXT = 'LoRA: train low-rank updates only, with the base frozen'

/** Options that several recipes have. */
export const recipeFields = lazily((z) => {
  const { dropout: _, ...alignmentLoraFields } = loraFields()
  return {
    model: option(
      custom<CausalLM>('CausalLM', isModel, 'must be a model, such as one from CausalLM.load()'),
      'The model to train',
      text('DIR', 'Model to train: a folder, or org/name on the Hub'),
    ),
    data: option(
      custom<DataSource>('DataSource', isRows, NO_DATA),
      `Rows to train on: a file (${ENDINGS_TEXT}), rows, or a weighted mix of sources`,
      DATA_FLAG,
    ),
    validation: option(
      custom<Validation>(
        'Validation',
        (value) => isRows(value) || (isObject(value) && typeof Reflect.get(value, 'fraction') === 'number'),
        'must be { fraction }, a path, an array of rows or an async iterable of rows',
      ).optional(),
      'Validation rows: a file, rows, or { fraction } of the data to hold out',
      {
        help: 'Validation rows: a file, or the fraction of the data to hold out, such as 0.05',
        placeholder: 'FILE|X',
        read: (value) => (Number.isFinite(Number(value)) ? { fraction: Number(value) } : value),
      },
    ),
    signal: option(abortSignal(), 'Aborts the run between two batches', false),
    onBadRow: option(
      z.enum(['error', 'skip']).default('error'),
      'What to do with a row that cannot be read or lacks a field: fail, or skip and count it',
    ),
    documents: option(
      z.enum(['paragraph', 'line']).optional(),
      'Documents of a .txt file: paragraphs between blank lines (default), or a line each',
    ),
    /** LoRA of `sft` and `pretrain`. */
    lora: option(z.object(loraFields()).optional(), LORA_TEXT, true),
    /** LoRA without dropout, which would make policy and reference differ. */
    alignmentLora: option(z.object(alignmentLoraFields).optional(), LORA_TEXT, true),
  }
})

/** The option `learningRate`, with its defaults for all weights and for LoRA only. */
export const learningRateOption = (full: number, adapted: number) =>
  option(
    zod().number().gt(0).optional(),
    `Peak learning rate (default: ${full.toExponential()}, or ${adapted.toExponential()} with LoRA); tiny models need 1e-4 to 2e-3`,
  )

/** Options of `sft`: the types, defaults, flags and help of the recipe. */
export const sftOptions = {
  name: 'sft',
  schema: lazily((z) => {
    const { model, data, validation, documents, lora, onBadRow, signal } = recipeFields()
    return z.object({
      model,
      data,
      validation,
      documents,
      epochs: option(z.int().min(1).optional(), 'Passes over the data (default: 3)'),
      learningRate: learningRateOption(2e-5, 2e-4),
      lora,
      ...renderingFields(),
      trainOn: option(
        z.enum(['assistant', 'lastAssistant', 'all']).default('assistant'),
        'Tokens that are labels: all assistant turns, the last one, or everything',
      ),
      reasoning: reasoningOption(
        'What to do with reasoning: as the template does, drop all of it, or keep it by making each turn a row of its own',
      ),
      overflow: option(
        z.enum(['truncate', 'drop', 'error']).default('truncate'),
        'What to do with a row longer than maxLength',
      ),
      onBadRow,
      ...trainingFields(),
      signal,
    })
  }),
  conflicts: [...trainingConflicts, ...loraConflicts],
} satisfies OptionSet

/** Options of `pretrain`. */
export const pretrainOptions = {
  name: 'pretrain',
  schema: lazily((z) => {
    const { model, data, validation, documents, lora, onBadRow, signal } = recipeFields()
    const { rendered } = renderingFields()
    return z.object({
      model,
      data,
      validation,
      documents,
      epochs: option(z.int().min(1).optional(), 'Passes over the data (default: 1)'),
      learningRate: learningRateOption(6e-4, 2e-4),
      lora,
      rendered,
      onBadRow,
      ...trainingFields(),
      signal,
    })
  }),
  conflicts: [...trainingConflicts, ...loraConflicts],
} satisfies OptionSet

/** Options of all supervised recipes, checked and with defaults filled in. */
export type TrainingOptions = Omit<
  ResolvedOptions<typeof pretrainOptions>,
  'epochs' | 'learningRate' | 'model' | 'lora'
> & { epochs: number; learningRate: number }
