import { loadDataset } from '../data/dataset.js'
import { loadPreferences } from '../data/preferences.js'
import { loadPrompts } from '../data/prompts.js'
import type { Row } from '../data/rows/rows.js'
import type { Template } from '../data/text/template.js'
import { plainTemplate, templateOf } from '../data/text/templates.js'
import { PosttrainError } from '../errors.js'
import { nativeOf, type TrainableModel } from '../models/causal-lm.js'
import { type DpoOptions, dpo } from '../train/dpo.js'
import { type GrpoOptions, grpo, type RlooOptions, rloo } from '../train/grpo.js'
import { type PpoOptions, ppo } from '../train/ppo.js'
import { type PretrainOptions, pretrain } from '../train/pretrain.js'
import { type RewardOptions, reward } from '../train/reward.js'
import { type SftOptions, sft } from '../train/sft.js'
import { isPolicy, type Recipe, type Sizes } from './runs.js'

/** What a few real steps took. */
export interface Probe {
  steps: number
  secondsPerStep: number
  /** Of prompts, answers and rows that went through a step, the mean of the steps. */
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
  'samples',
  'checkpoints',
  'output',
  'resume',
  'overwrite',
  'saveDtype',
  'padToken',
  'epochs',
  'maxSteps',
  'iterations',
  'overflow',
]

/** Runs a few steps of a recipe on rows made up at the sizes counted. Changes the model. */
export async function probe(
  recipe: Recipe,
  model: TrainableModel,
  given: Record<string, unknown>,
  sizes: Sizes,
): Promise<Probe> {
  const options = Object.fromEntries(Object.entries(given).filter(([name]) => !LEFT_OUT.includes(name)))
  if (isPolicy(recipe) && given.epochs !== undefined) options.epochs = given.epochs
  const template =
    recipe === 'pretrain' ? plainTemplate : await templateOf(given.template as undefined, model)
  const rowOf = rowMaker(recipe, given.loss === 'kto')
  const words = await longest(isPolicy(recipe) ? sizes.promptTokens : sizes.tokens, (count) =>
    tokensOf(recipe, rowOf(count, 0), model, template),
  )
  const accumulation = (options.gradientAccumulation as number | undefined) ?? 1
  const rows = isPolicy(recipe) ? sizes.answers : sizes.documents * accumulation * (TIMED + 1)
  const data = Array.from({ length: rows }, (_, i) => rowOf(words, i))
  const run = start(recipe, { ...options, model, data, shuffle: false }) as AsyncIterable<Seen>
  const { core } = nativeOf(model)
  const steps: Seen[] = []
  let began = 0
  for await (const event of run) {
    if (event.type !== 'step') continue
    if (steps.length === 0) {
      await core.resetPeak()
      began = performance.now()
    }
    steps.push(event)
    if (steps.length === TIMED + 1) break
  }
  const timed = steps.slice(1)
  const mean = (of: (step: Seen) => number) => timed.reduce((sum, step) => sum + of(step), 0) / timed.length
  const parts = timed[0]!.seconds
  return {
    steps: timed.length,
    secondsPerStep: (performance.now() - began) / 1000 / timed.length,
    tokensPerStep: mean(({ tokens }) => tokens ?? 0),
    ...(parts && {
      seconds: {
        rollout: mean(({ seconds }) => seconds!.rollout),
        score: mean(({ seconds }) => seconds!.score),
        update: mean(({ seconds }) => seconds!.update),
      },
    }),
    peakBytes: model.device === 'cpu' ? (await core.info()).peakAllocatedBytes : null,
    residentBytes: process.resourceUsage().maxRSS * 1024,
  }
}

/** A row of the recipe's kind with so many words; no two are the same. */
function rowMaker(recipe: Recipe, judged: boolean): (words: number, seed: number) => Record<string, unknown> {
  const text = (words: number, seed: number) =>
    Array.from({ length: words }, (_, i) => (i === 0 ? `${seed % 10}` : 'a')).join(' ')
  switch (recipe) {
    case 'pretrain':
      return (words, seed) => ({ text: text(words, seed) })
    case 'sft':
      return (words, seed) => ({ prompt: 'a', completion: text(words, seed) })
    case 'reward':
    case 'dpo':
      return judged
        ? (words, seed) => ({ prompt: 'a', completion: text(words, seed), label: seed % 2 === 0 })
        : (words, seed) => ({ prompt: 'a', chosen: text(words, seed), rejected: text(words, seed + 1) })
    case 'ppo':
    case 'grpo':
    case 'rloo':
      return (words, seed) => ({ prompt: text(words, seed) })
    default:
      return recipe satisfies never
  }
}

/** The most words whose row has at most `tokens` tokens. */
async function longest(tokens: number, measure: (words: number) => Promise<number>): Promise<number> {
  let [low, high] = [1, tokens]
  if ((await measure(1)) > tokens) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `the probe has no row of ${tokens} tokens: the template alone is longer`,
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
  recipe: Recipe,
  row: Record<string, unknown>,
  model: TrainableModel,
  template: Template,
): Promise<number> {
  const reading = {
    tokenizer: model.tokenizer,
    template,
    maxLength: 2 ** 30,
    onBadRow: 'error' as const,
    overflow: 'error' as const,
    seed: 0,
  }
  if (isPolicy(recipe))
    return (await loadPrompts([row as unknown as Row], reading)).items[0]!.promptIds.length
  const rows =
    recipe === 'reward' || recipe === 'dpo'
      ? await loadPreferences(
          [{ prompt: 'a', chosen: row.chosen ?? row.completion, rejected: 'b' } as unknown as Row],
          reading,
        )
      : await loadDataset([row as unknown as Row], {
          ...reading,
          trainOn: recipe === 'sft' ? 'assistant' : 'all',
          needsStop: false,
        })
  try {
    return (await rows.train.store.read(0)).inputIds.length
  } finally {
    await rows.train.store.close()
  }
}

function start(recipe: Recipe, options: Record<string, unknown>): unknown {
  const steps = { maxSteps: TIMED + 1 }
  const policy = {
    iterations: TIMED + 1,
    ...(options.reward === undefined && {
      reward: (samples: readonly unknown[]) => samples.map((_, i) => i % 2),
    }),
  }
  switch (recipe) {
    case 'sft':
      return sft({ ...options, ...steps } as unknown as SftOptions)
    case 'pretrain':
      return pretrain({ ...options, ...steps } as unknown as PretrainOptions)
    case 'reward':
      return reward({ ...options, ...steps } as unknown as RewardOptions)
    case 'dpo':
      return dpo({ ...options, ...steps } as unknown as DpoOptions)
    case 'ppo':
      return ppo({ ...options, ...policy } as unknown as PpoOptions)
    case 'grpo':
      return grpo({ ...options, ...policy } as unknown as GrpoOptions)
    case 'rloo':
      return rloo({ ...options, ...policy } as unknown as RlooOptions)
    default:
      return recipe satisfies never
  }
}
