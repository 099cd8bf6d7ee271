import type { DecoderSpec } from '../addon/addon.js'
import { PosttrainError } from '../errors.js'
import type { Family } from '../models/families/index.js'
import { type AdapterConfig, adapterConfig, criticLora } from '../models/lora.js'
import type { LoraOptions } from '../models/options.generated.js'
import { referenceFreeLosses } from '../options/pair-losses.js'
import { RECIPES, type RecipeName } from '../train/recipes.js'
import { MOMENTS } from '../train/roles/optimizer.js'
import type { CountedAdapter, CountedBase, CountedRole, CountedRun, Job } from './count.js'
import type { Machine } from './layers.js'
import type { DataLengths } from './lengths.js'
import type { Batch, LossShape } from './passes.js'

/** A model that has not been opened. */
export interface ModelShape {
  family: Family
  spec: DecoderSpec
  /** The linear layers of its blocks are kept in 4 bits. */
  coded: boolean
  /** Tokens of a document at most; null where nothing says. */
  contextLength: number | null
}

/** Source of rewards: nothing in memory, a separate model, or an adapter on the policy's base. */
export type RewardShape =
  | { kind: 'function' }
  | { kind: 'model'; model: ModelShape }
  | { kind: 'adapter'; config: AdapterConfig }

/** The options of a recipe that memory depends on, by their names in its schema, defaults filled in. */
export interface CountedOptions {
  lora?: Omit<LoraOptions, 'seed'> | undefined
  activationCheckpointing: boolean
  /** `'adamw'` where it is absent. */
  optimizer?: keyof typeof MOMENTS | undefined
  batchSize?: number | undefined
  batchTokens?: number | undefined
  maxLength?: number | undefined
  maxNewTokens?: number | undefined
  maxPromptLength?: number | undefined
  rolloutBatchSize?: number | undefined
  groupSize?: number | undefined
  miniBatches?: number | undefined
  temperature?: number | undefined
  klCoef?: number | undefined
  kl?: { in?: string | undefined; estimator?: string | undefined } | undefined
  loss?: string | undefined
}

export interface RunShape {
  recipe: RecipeName
  model: ModelShape
  /** An adapter that is on the model already. */
  adapter: AdapterConfig | null
  rewards: readonly RewardShape[]
  options: CountedOptions
  /** Lengths of the rows of the run; without them rows are assumed as long as the options allow. */
  data?: DataLengths | null
  machine: Machine
}

/** Sizes of rows and batches. */
export interface Sizes {
  /** Documents of one forward and backward. */
  documents: number
  /** Tokens of each. */
  tokens: number
  /** Tokens of each that are answers; those of supervised recipes are all but the first. */
  labels: number
  /** Answers of a rollout; 0 in supervised recipes. */
  answers: number
  promptTokens: number
  /** The largest batch of the data, whose rows have lengths of their own; null without data. */
  batch: Batch | null
}

/** Rows of a batch are pairs. */
const isPaired = ({ recipe, options }: RunShape) =>
  RECIPES[recipe].rows === 'comparisons' && options.loss !== 'kto'

const contextOf = ({ model }: RunShape) => model.contextLength ?? Number.POSITIVE_INFINITY

/** Maximum tokens of a row of a supervised recipe. */
export const rowLimit = (run: RunShape): number => Math.min(run.options.maxLength ?? 1024, contextOf(run))

/** Maximum tokens of a prompt, infinite where nothing says. */
export function promptLimit(run: RunShape): number {
  const { maxNewTokens, maxPromptLength } = run.options
  return Math.min(Math.max(1, contextOf(run) - maxNewTokens!), maxPromptLength ?? Number.POSITIVE_INFINITY)
}

/** `documents` of one backward, instead of what the options say. */
export function sizesOf(run: RunShape, documents?: number): Sizes {
  const { recipe, options } = run
  const packed = (tokens: number) => Math.max(1, Math.floor((options.batchTokens ?? 0) / tokens))
  if (RECIPES[recipe].rollout) {
    const labels = options.maxNewTokens!
    const promptTokens = run.data?.longest ?? promptLimit(run)
    if (!Number.isFinite(promptTokens) && !run.data) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        'the model states no context length, so the prompt length is unknown: set maxPromptLength',
      )
    }
    const tokens = promptTokens + labels
    const answers = options.batchSize! * (options.groupSize ?? 1)
    return { documents: documents ?? packed(tokens), tokens, labels, answers, promptTokens, batch: null }
  }
  const none = { answers: 0, promptTokens: 0 }
  const given = run.data?.batch ?? null
  const tokens = run.data?.longest ?? rowLimit(run)
  if (given !== null && documents === undefined)
    return { documents: given.lengths.length, tokens, labels: tokens - 1, ...none, batch: given }
  const rows =
    options.batchTokens === undefined ? (options.batchSize ?? 8) * (isPaired(run) ? 2 : 1) : packed(tokens)
  return { documents: documents ?? rows, tokens, labels: tokens - 1, ...none, batch: null }
}

const adapterOf = (name: string, config: AdapterConfig): CountedAdapter => ({ name, config })

/** The batch of the data, or so many documents of the largest size; each with `of` labels, if that is given. */
function batchOf({ tokens, labels, batch }: Sizes, documents: number, of?: number): Batch {
  if (batch !== null) return of === undefined ? batch : { ...batch, labels: documents * of }
  return { lengths: Array.from({ length: documents }, () => tokens), labels: documents * (of ?? labels) }
}

const backward = (
  role: CountedRole,
  batch: Batch,
  terms: LossShape['terms'],
  reference: CountedRole | null = null,
): Job => ({ kind: 'backward', role, batch, terms, reference })

/** Models and jobs of a recipe, as its own file in lib/train has them. */
export function countedRun(run: RunShape, sizes: Sizes): CountedRun {
  const { recipe, model, options, machine } = run
  const base: CountedBase = { name: 'model', ...model }
  const added = options.lora
  if (added && run.adapter) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      'lora adds an adapter, but the model already uses one: omit lora to continue training it, or merge it first',
    )
  }
  const trained = added ? adapterConfig({ ...model, scored: recipe === 'reward' }, added) : run.adapter
  if (model.coded && !trained) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      'weights in 4 bits are frozen: add lora, which trains an adapter upon them, or leave out quantize',
    )
  }
  const adapter = trained && adapterOf('adapter', trained)
  const head = recipe === 'reward' ? 'score' : null
  const policy: CountedRole = { base, adapter, head, trained: true }
  const shared = {
    machine,
    checkpointing: options.activationCheckpointing,
    temperature: options.temperature ?? 1,
    moments: MOMENTS[options.optimizer ?? 'adamw'],
  }
  /** The policy as it was at the start. */
  const reference = (): CountedRole => {
    if (adapter === null)
      return { base: { ...base, name: 'reference' }, adapter: null, head: null, trained: false }
    const kept = added ? null : adapterOf('reference', adapter.config)
    return { base, adapter: kept, head: null, trained: false }
  }
  const batch = batchOf(sizes, sizes.documents)

  switch (recipe) {
    case 'sft':
    case 'pretrain':
      return {
        ...shared,
        roles: [policy],
        phases: [{ phase: 'update', jobs: [backward(policy, batch, ['crossEntropy'])] }],
      }
    case 'reward':
      return {
        ...shared,
        roles: [policy],
        phases: [
          {
            phase: 'update',
            jobs: [backward(policy, batchOf(sizes, sizes.documents, 1), ['pairwiseReward'])],
          },
        ],
      }
    case 'dpo': {
      const compares = !referenceFreeLosses.some((loss) => loss === options.loss)
      // With all weights in training the reference is asked before the first step, and only kto's stays.
      const kept = compares && (adapter !== null || options.loss === 'kto') ? reference() : null
      const jobs: Job[] = kept === null ? [] : [{ kind: 'forward', role: kept, batch, head: 'logProbs' }]
      return {
        ...shared,
        roles: [policy, ...(kept ? [kept] : [])],
        phases: [
          ...(jobs.length > 0 ? [{ phase: 'score' as const, jobs }] : []),
          { phase: 'update', jobs: [backward(policy, batch, [options.loss === 'kto' ? 'kto' : 'dpo'])] },
        ],
      }
    }
    case 'ppo':
    case 'grpo':
    case 'rloo':
      return { ...shared, ...policyRun(run, sizes, policy, reference) }
    default:
      return recipe satisfies never
  }
}

/** Models and jobs of PPO, GRPO and RLOO: a rollout, its scores and the updates. */
function policyRun(
  run: RunShape,
  sizes: Sizes,
  policy: CountedRole,
  reference: () => CountedRole,
): Pick<CountedRun, 'roles' | 'phases'> {
  const rewards = run.rewards.flatMap((reward, i): CountedRole[] => {
    const name = run.rewards.length === 1 ? 'reward' : `reward ${i + 1}`
    switch (reward.kind) {
      case 'function':
        return []
      case 'model':
        return [{ base: rewardBase(name, reward.model), adapter: null, head: name, trained: false }]
      case 'adapter':
        return [{ base: policy.base, adapter: adapterOf(name, reward.config), head: name, trained: false }]
      default:
        return reward satisfies never
    }
  })
  const critic = run.recipe === 'ppo' ? criticOf(run, policy, rewards) : null
  const compared = run.recipe === 'ppo' || run.options.klCoef !== 0 ? reference() : null
  const scored = batchOf(sizes, Math.min(sizes.documents, sizes.answers))
  const updated = batchOf(
    sizes,
    Math.min(sizes.documents, Math.ceil(sizes.answers / Math.max(1, run.options.miniBatches ?? 1))),
  )
  const fullKl = run.options.kl?.in === 'loss' && run.options.kl.estimator === 'full' ? compared : null
  const forward = (role: CountedRole, what: 'logProbs' | 'score', read = scored): Job => ({
    kind: 'forward',
    role,
    batch: read,
    head: what,
  })
  const { promptTokens, labels, answers } = sizes
  const rows = Math.min(answers, run.options.rolloutBatchSize ?? answers)
  return {
    roles: [policy, ...(critic ? [critic] : []), ...rewards, ...(compared ? [compared] : [])],
    phases: [
      {
        phase: 'rollout',
        jobs: [{ kind: 'generate', role: policy, rollout: { rows, promptTokens, newTokens: labels } }],
      },
      {
        phase: 'score',
        jobs: [
          ...rewards.map((role) => forward(role, 'score', { ...scored, labels: scored.lengths.length })),
          forward(policy, 'logProbs'),
          ...(compared ? [forward(compared, 'logProbs')] : []),
          ...(critic ? [forward(critic, 'score')] : []),
        ],
      },
      {
        phase: 'update',
        jobs: [
          backward(policy, updated, fullKl ? ['ppoPolicy', 'fullKl'] : ['ppoPolicy'], fullKl),
          ...(critic ? [backward(critic, updated, ['ppoValue'])] : []),
        ],
      },
    ],
  }
}

/** A classifier has no output projection of its own. */
function rewardBase(name: string, { family, spec, coded }: ModelShape): CountedBase {
  return { name, family, spec: { ...spec, tied: true }, coded }
}

/** The critic starts from the first reward model, else from the policy; with adapters it shares that one's weights. */
function criticOf(run: RunShape, policy: CountedRole, rewards: readonly CountedRole[]): CountedRole {
  const start = rewards[0]
  const base = start?.base ?? policy.base
  if (policy.adapter === null) {
    return { base: { ...base, name: 'critic' }, adapter: null, head: 'critic', trained: true }
  }
  const { family, spec } = base
  const { adapter } = policy
  const config =
    start === undefined || start.base === policy.base
      ? (start?.adapter ?? adapter).config
      : adapterConfig({ family, spec, scored: true }, criticLora(run.options.lora ?? loraOf(adapter.config)))
  return { base, adapter: { name: 'critic', config }, head: 'critic', trained: true }
}

function loraOf({ rank, alpha, rsLora, dora }: AdapterConfig): Omit<LoraOptions, 'seed'> {
  return { rank, alpha, rsLora, dora }
}
