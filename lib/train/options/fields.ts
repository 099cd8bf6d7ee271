import { ENDINGS_TEXT } from '../../data/formats/index.js'
import type { DataSource, PromptSource, Validation } from '../../data/sources.js'
import type { Template } from '../../data/text/template.js'
import type { CausalLM } from '../../models/causal-lm.js'
import { loraFields } from '../../models/lora.js'
import { abortSignal, isModel, isTextOrObject, text } from '../../options/kinds.js'
import {
  custom,
  type FlagReader,
  type OptionSet,
  option,
  type ResolvedOptions,
} from '../../options/option.js'
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

const NO_DATA = 'must be a path, an array of rows, an async iterable of rows, or a list of { data, weight }'
const DATA_FLAG: FlagReader = {
  placeholder: 'FILE',
  read: (value) => value,
  repeat: true,
  collect: readSources,
  help: `Rows to train on (${ENDINGS_TEXT}); several are mixed, by weight with FILE=WEIGHT`,
}

/** `data` of PPO, GRPO and RLOO, whose reward functions see the columns of the rows. */
export const promptsOption = () =>
  option(
    custom<PromptSource>('PromptSource<Row>', isTextOrObject, NO_DATA),
    `Rows with a prompt: a file (${ENDINGS_TEXT}), rows, or several sources`,
    DATA_FLAG,
  )

const LORA_TEXT = 'Train low-rank updates alone and leave the base as it is'

/** Options that several recipes have. */
export const recipeFields = lazily((z) => {
  const { dropout: _, ...alignmentLoraFields } = loraFields()
  return {
    model: option(
      custom<CausalLM>('CausalLM', isModel, 'must be a model, such as CausalLM.load() gives'),
      'The model to train',
      text('DIR', 'Folder of the model to train, or org/name on the Hub'),
    ),
    data: option(
      custom<DataSource>('DataSource', isTextOrObject, NO_DATA),
      `Rows to train on: a file (${ENDINGS_TEXT}), rows, or several sources that are mixed by weight`,
      DATA_FLAG,
    ),
    validation: option(
      custom<Validation>(
        'Validation',
        isTextOrObject,
        'must be { fraction }, a path, an array of rows or an async iterable of rows',
      ).optional(),
      'Rows for the validation loss: a file, rows, or { fraction } of the data',
      {
        help: 'Rows for the validation loss: a file, or a fraction of the data such as 0.05',
        placeholder: 'FILE|X',
        read: (value) => (Number.isFinite(Number(value)) ? { fraction: Number(value) } : value),
      },
    ),
    template: option(
      custom<'chat' | 'plain' | 'alpaca' | (string & {}) | Template>(
        "'chat' | 'plain' | 'alpaca' | (string & {}) | Template",
        isTextOrObject,
        "must be 'chat', 'plain', 'alpaca', the path of a .jinja file, or a template",
      ).optional(),
      "How rows become text (default: the model's own chat template, else plain)",
      text('chat|plain|alpaca|FILE.jinja'),
    ),
    signal: option(abortSignal(), 'Aborts between two batches', false),
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
    `Peak of the learning rate (default: ${full.toExponential()}, or ${adapted.toExponential()} with LoRA); tiny models need 1e-4 to 2e-3`,
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

/** What the options of all recipes have in common once they are checked and the defaults filled in. */
export type TrainingOptions = Omit<
  ResolvedOptions<typeof pretrainOptions>,
  'epochs' | 'learningRate' | 'model' | 'lora'
> & { epochs: number; learningRate: number }
