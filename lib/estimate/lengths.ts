import { loadDataset } from '../data/dataset.js'
import { isPredicted } from '../data/encode/mask.js'
import { preferenceLoader } from '../data/loaders/preferences.js'
import { rowLoader } from '../data/loaders/rows.js'
import { unpairedLoader } from '../data/loaders/unpaired.js'
import { loadPreferences } from '../data/preferences.js'
import { loadPrompts } from '../data/prompts.js'
import type { DataSource } from '../data/sources.js'
import { chooseTemplate, plainTemplate } from '../data/text/templates.js'
import { Tokenizer } from '../data/text/tokenizer.js'
import { loadUnpaired } from '../data/unpaired.js'
import type { RecipeName } from '../train/recipes.js'

/** Lengths of the rows of a data set, as a recipe encodes and batches them. */
export interface DataLengths {
  /** Tokens of the longest row, or prompt. */
  longest: number
  /** The batch with the most tokens in the first epoch: tokens of each row, and labels in all; null for prompts. */
  batch: { lengths: readonly number[]; labels: number } | null
}

/** The options of a recipe that reading its data depends on. */
export interface ReadingOptions {
  data: DataSource
  template?: string | undefined
  rendered?: boolean | undefined
  trainOn?: 'assistant' | 'lastAssistant' | 'all' | undefined
  overflow?: 'truncate' | 'drop' | 'error' | undefined
  onBadRow?: 'error' | 'skip' | undefined
  batchSize?: number | undefined
  batchTokens?: number | undefined
  shuffle?: boolean | undefined
  seed?: number | undefined
  loss?: string | undefined
}

/**
 * Reads the data of a recipe with the tokenizer of a model folder, as the recipe does. `maxLength` bounds rows, or
 * prompts. Throws ERR_DATA.
 */
export async function lengthsOf(
  recipe: RecipeName,
  model: string,
  options: ReadingOptions,
  maxLength: number,
): Promise<DataLengths> {
  const tokenizer = await Tokenizer.load(model)
  const { template, strings } =
    recipe === 'pretrain'
      ? { template: plainTemplate, strings: 'raw' as const }
      : await chooseTemplate(options.template, tokenizer)
  const { data, seed = 0, shuffle = true, onBadRow = 'error', rendered = false } = options
  const reading = { ...options, tokenizer, template, strings, rendered, maxLength, seed, onBadRow }
  const batching = { shuffle, seed }
  const { batchTokens, batchSize = 8 } = options
  switch (recipe) {
    case 'sft':
    case 'pretrain': {
      const rows = await loadDataset(data, {
        ...reading,
        trainOn: recipe === 'sft' ? (options.trainOn ?? 'assistant') : 'all',
        overflow: options.overflow ?? 'truncate',
        needsStop: false,
      })
      const size = batchTokens === undefined ? { batchSize } : { batchTokens }
      return await closing(rows.train.store, rowLoader(rows.train, { ...batching, ...size, padId: 0 }))
    }
    case 'reward':
    case 'dpo': {
      const size = { ...batching, batchSize }
      if (options.loss !== 'kto') {
        const { train } = await loadPreferences(data, { ...reading, apart: recipe === 'reward' })
        return await closing(train.store, preferenceLoader(train, size))
      }
      const { train } = await loadUnpaired(data, reading)
      return await closing(train.store, unpairedLoader(train, size))
    }
    case 'ppo':
    case 'grpo':
    case 'rloo': {
      const { items } = await loadPrompts(data, {
        ...reading,
        overflow: options.overflow === 'drop' ? 'drop' : 'error',
      })
      return {
        longest: items.reduce((most, { promptIds }) => Math.max(most, promptIds.length), 0),
        batch: null,
      }
    }
    default:
      return recipe satisfies never
  }
}

async function closing(
  store: { close(): Promise<void> },
  loader: { epoch(epoch: number): AsyncIterable<object> },
): Promise<DataLengths> {
  try {
    let longest = 0
    let largest = { tokens: 0, lengths: [] as number[], labels: 0 }
    for await (const batch of loader.epoch(0)) {
      const { offsets, labels } = batch as { offsets: Int32Array; labels: Int32Array }
      const lengths = Array.from(offsets.subarray(1), (end, d) => end - offsets[d]!)
      longest = Math.max(longest, ...lengths)
      const tokens = offsets.at(-1)!
      if (tokens <= largest.tokens) continue
      largest = { tokens, lengths, labels: labeled(labels, offsets) }
    }
    return { longest, batch: { lengths: largest.lengths, labels: largest.labels } }
  } finally {
    await store.close()
  }
}

function labeled(labels: Int32Array, offsets: Int32Array): number {
  let count = 0
  for (let d = 0; d + 1 < offsets.length; d++)
    for (let t = offsets[d]!; t < offsets[d + 1]!; t++) count += Number(isPredicted(labels, t, offsets[d]!))
  return count
}
