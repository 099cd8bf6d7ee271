import { loadDataset } from '../data/dataset.js'
import { loadPreferences } from '../data/preferences.js'
import { loadPrompts } from '../data/prompts.js'
import type { Row } from '../data/rows/rows.js'
import { type ChosenTemplate, chooseTemplate, plainTemplate } from '../data/text/templates.js'
import { PosttrainError } from '../errors.js'
import type { Model } from '../models/model.js'
import { RECIPES, type RecipeEntry, type RecipeName } from '../train/recipes.js'
import { mean } from '../train/run/sums.js'
import type { Sizes } from './runs.js'

/** Measurements of a few real steps. */
export interface Probe {
  steps: number
  secondsPerStep: number
  /** Mean tokens per step: prompts, responses and rows. */
  tokensPerStep: number
  /** In policy recipes: parts of a step. */
  seconds?: { rollout: number; score: number; update: number }
  /** The most that was allocated at once on the CPU; null elsewhere. */
  peakBytes: number | null
  /** The most that the process had in memory since it began, all of it: code, JavaScript, what the allocator keeps. */
  residentBytes: number
}

/** Steps that are timed, after one that is not. */
const TIMED = 2

interface Seen {
  type: string
  tokens?: number
  seconds?: { rollout: number; score: number; update: number }
}

/** Options that say where a run stores and what it reads; a probe stores nothing and reads rows of its own. */
const LEFT_OUT = [
  'data',
  'validation',
  'evaluation',
  'earlyStopping',
  'keep',
  'samples',
  'checkpoints',
  'output',
  'resume',
  'overwrite',
  'takeLock',
  'saveDtype',
  'padToken',
  'epochs',
  'maxSteps',
  'iterations',
  'overflow',
]

/** Runs a few steps of a recipe on rows made up at the sizes counted. Changes the model. */
export async function probe(
  recipe: RecipeName,
  model: Model,
  given: Record<string, unknown>,
  sizes: Sizes,
): Promise<Probe> {
  const options = Object.fromEntries(Object.entries(given).filter(([name]) => !LEFT_OUT.includes(name)))
  const { rollout, rows: kind, start } = RECIPES[recipe]
  // Passes over a rollout there; elsewhere the length of the run.
  if (rollout && given.epochs !== undefined) options.epochs = given.epochs
  const chosen =
    kind === 'text'
      ? { template: plainTemplate, strings: 'raw' as const }
      : await chooseTemplate(given.template as undefined, model)
  const rowOf = rowMaker(kind, given.loss === 'kto')
  const words = await longest(rollout ? sizes.promptTokens : sizes.tokens, (count) =>
    tokensOf(kind, rowOf(count, 0), model, chosen),
  )
  const accumulation = (options.gradientAccumulation as number | undefined) ?? 1
  const rows = rollout ? sizes.answers : sizes.documents * accumulation * (TIMED + 1)
  const data = Array.from({ length: rows }, (_, i) => rowOf(words, i))
  const length = rollout ? { iterations: TIMED + 1 } : { maxSteps: TIMED + 1 }
  const run = await start({
    ...options,
    ...(rollout && options.reward === undefined && { reward: alternating }),
    ...length,
    model,
    data,
    shuffle: false,
  })
  const { core } = model.role
  const steps: Seen[] = []
  let began = 0
  for await (const event of run) {
    if (event.type !== 'step') continue
    if (steps.length === 0) {
      await core.resetPeak()
      began = performance.now()
    }
    steps.push(event as Seen)
    if (steps.length === TIMED + 1) break
  }
  const timed = steps.slice(1)
  const meanOf = (of: (step: Seen) => number) => mean(timed.map(of))
  const parts = timed[0]!.seconds
  return {
    steps: timed.length,
    secondsPerStep: (performance.now() - began) / 1000 / timed.length,
    tokensPerStep: meanOf(({ tokens }) => tokens ?? 0),
    ...(parts && {
      seconds: {
        rollout: meanOf(({ seconds }) => seconds!.rollout),
        score: meanOf(({ seconds }) => seconds!.score),
        update: meanOf(({ seconds }) => seconds!.update),
      },
    }),
    peakBytes: model.device === 'cpu' ? (await core.info()).peakAllocatedBytes : null,
    residentBytes: process.resourceUsage().maxRSS * 1024,
  }
}

/** A reward under which the responses of a group differ. */
const alternating = (samples: readonly unknown[]) => samples.map((_, i) => i % 2)

/** A row of the recipe's kind with so many words; no two are the same. */
function rowMaker(
  kind: RecipeEntry['rows'],
  unpaired: boolean,
): (words: number, seed: number) => Record<string, unknown> {
  const text = (words: number, seed: number) =>
    Array.from({ length: words }, (_, i) => (i === 0 ? `${seed % 10}` : 'a')).join(' ')
  switch (kind) {
    case 'text':
      return (words, seed) => ({ text: text(words, seed) })
    case 'responses':
      return (words, seed) => ({ prompt: 'a', completion: text(words, seed) })
    case 'comparisons':
      return unpaired
        ? (words, seed) => ({ prompt: 'a', completion: text(words, seed), label: seed % 2 === 0 })
        : (words, seed) => ({ prompt: 'a', chosen: text(words, seed), rejected: text(words, seed + 1) })
    case 'prompts':
      return (words, seed) => ({ prompt: text(words, seed) })
    default:
      return kind satisfies never
  }
}

/** The most words whose row has at most `tokens` tokens. */
async function longest(tokens: number, measure: (words: number) => Promise<number>): Promise<number> {
  let [low, high] = [1, tokens]
  if ((await measure(1)) > tokens) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `the probe cannot make a row of ${tokens} tokens: the chat template alone is longer`,
    )
  }
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if ((await measure(middle)) <= tokens) low = middle
    else high = middle - 1
  }
  return low
}

/** Tokens of a row as the recipe reads it. */
async function tokensOf(
  kind: RecipeEntry['rows'],
  row: Record<string, unknown>,
  model: Model,
  { template, strings }: Pick<ChosenTemplate, 'template' | 'strings'>,
): Promise<number> {
  const reading = {
    tokenizer: model.tokenizer,
    template,
    strings,
    rendered: false,
    maxLength: 2 ** 30,
    onBadRow: 'error' as const,
    overflow: 'error' as const,
    seed: 0,
  }
  if (kind === 'prompts')
    return (await loadPrompts([row as unknown as Row], reading)).items[0]!.promptIds.length
  const rows =
    kind === 'comparisons'
      ? await loadPreferences(
          [{ prompt: 'a', chosen: row.chosen ?? row.completion, rejected: 'b' } as unknown as Row],
          reading,
        )
      : await loadDataset([row as unknown as Row], {
          ...reading,
          trainOn: kind === 'responses' ? 'assistant' : 'all',
          needsStop: false,
        })
  try {
    return (await rows.train.store.read(0)).inputIds.length
  } finally {
    await rows.train.store.close()
  }
}
