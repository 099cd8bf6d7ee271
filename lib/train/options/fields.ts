import type { DataSource, Validation } from '../../data/sources.js'
import type { Template } from '../../data/text/template.js'
import type { CausalLM } from '../../models/causal-lm.js'
import { loraFields } from '../../models/lora.js'
import { isModel, isObject, text } from '../../options/kinds.js'
import { type OptionInput, type OptionSet, option, type ResolvedOptions } from '../../options/option.js'
import { loraConflicts, trainingConflicts, trainingFields } from '../../options/training.js'
import { lazily, zod } from '../../options/zod.js'

/** A path alone, or several sources, each with its weight: `a.jsonl`, `b.jsonl=0.2`. */
function readSources(values: unknown[]): unknown {
  const sources = values.map((value) => {
    const [, path, weight] = /^(.*?)(?:=([\d.]+))?$/.exec(String(value))!
    return { data: path, weight: weight === undefined ? 1 : Number(weight) }
  })
  return values.length === 1 && sources[0]?.data === values[0] ? values[0] : sources
}

const LORA_TEXT = 'Train low-rank updates alone and leave the base as it is'

/** Options that several recipes have. */
export const recipeFields = lazily((z) => {
  const { dropout: _, ...alignmentLoraFields } = loraFields()
  return {
    model: option(
      z.custom<CausalLM>(isModel, 'must be a model, such as CausalLM.load() gives'),
      'Folder of the model to train, or org/name on the Hub',
      text('DIR'),
    ),
    data: option(
      z.custom<DataSource>(
        (value) => (typeof value === 'string' && value !== '') || isObject(value),
        'must be a path, an array of rows, an async iterable of rows, or a list of { data, weight }',
      ),
      'Rows to train on (.jsonl, .json or .txt); several are mixed, by weight with FILE=WEIGHT',
      { placeholder: 'FILE', read: (value) => value, repeat: true, collect: readSources },
    ),
    validation: option(
      z
        .custom<Validation>(
          (value) => (typeof value === 'string' && value !== '') || isObject(value),
          'must be { fraction }, a path, an array of rows or an async iterable of rows',
        )
        .optional(),
      'Rows for the validation loss: a file, or a fraction of the data such as 0.05',
      {
        placeholder: 'FILE|X',
        read: (value) => (Number.isFinite(Number(value)) ? { fraction: Number(value) } : value),
      },
    ),
    template: option(
      z
        .custom<'chat' | 'plain' | 'alpaca' | (string & {}) | Template>(
          (value) => (typeof value === 'string' && value !== '') || isObject(value),
          "must be 'chat', 'plain', 'alpaca', the path of a .jinja file, or a template",
        )
        .optional(),
      "How rows become text (default: the model's own chat template, else plain)",
      text('chat|plain|alpaca|FILE.jinja'),
    ),
    signal: option(
      z.custom<AbortSignal>((value) => value instanceof AbortSignal, 'must be an AbortSignal').optional(),
      'Aborts between two batches',
      false,
    ),
    onBadRow: option(
      z.enum(['error', 'skip']).default('error'),
      'A row that cannot be read or lacks its fields ends the run, or is left out and counted',
    ),
    /** Of recipes that learn from given text. */
    lora: option(z.object(loraFields()).optional(), LORA_TEXT),
    /** Of recipes that compare with a reference, where dropout would make the two differ. */
    alignmentLora: option(z.object(alignmentLoraFields).optional(), LORA_TEXT),
  }
})

/** The peak of the learning rate where none is given: all weights, or low-rank updates alone. */
export const learningRateOption = (full: number, adapted: number) =>
  option(
    zod().number().gt(0).optional(),
    `Peak of the learning rate (default: ${full}, or ${adapted} with LoRA); tiny models need 1e-4 to 2e-3`,
  )

/** Options of `sft`: the types, defaults, flags and help of the recipe. */
export const sftOptions = {
  name: 'sft',
  schema: lazily((z) => {
    const { model, data, validation, lora, template, onBadRow, signal } = recipeFields()
    return z.object({
      model,
      data,
      validation,
      epochs: option(z.int().min(1).optional(), 'Passes over the data (default: 3)'),
      learningRate: learningRateOption(2e-5, 2e-4),
      lora,
      template,
      trainOn: option(
        z.enum(['assistant', 'lastAssistant', 'all']).default('assistant'),
        'Whose tokens are trained',
      ),
      overflow: option(
        z.enum(['truncate', 'drop', 'error']).default('truncate'),
        'What becomes of a row longer than maxLength',
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
    const { model, data, validation, lora, onBadRow, signal } = recipeFields()
    return z.object({
      model,
      data,
      validation,
      epochs: option(z.int().min(1).optional(), 'Passes over the data (default: 1)'),
      learningRate: learningRateOption(6e-4, 2e-4),
      lora,
      onBadRow,
      ...trainingFields(),
      signal,
    })
  }),
  conflicts: [...trainingConflicts, ...loraConflicts],
} satisfies OptionSet

export type SftOptions = OptionInput<typeof sftOptions>
export type PretrainOptions = OptionInput<typeof pretrainOptions>

/** What the options of all recipes have in common once they are checked and the defaults filled in. */
export type TrainingOptions = Omit<
  ResolvedOptions<typeof pretrainOptions>,
  'epochs' | 'learningRate' | 'model' | 'lora'
> & { epochs: number; learningRate: number }
