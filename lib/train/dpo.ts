/*
 * Direct preference optimization (DPO; Rafailov et al. 2023, arXiv 2305.18290) and its family, with KTO (Ethayarajh et al.
 * 2024, arXiv 2402.01306). Formulas and sources of the losses are in native/losses/preference.h. `train` below reads in
 * order. The step is that of every supervised recipe; the loss is in `supervised/preference.ts` or `supervised/kto.ts`.
 * Deviations from the papers:
 *
 *  1. A prompt with more than two ranked responses yields all its pairs. Their weights sum to 1. The loss is the mean over
 *     the pairs of the optimizer step.
 *  2. The log-probability of a response is a sum over its tokens, up to and including the terminator.
 *  3. `ipo` divides log-ratios by the number of tokens of the response; the paper writes them as sums.
 *  4. `sftCoef` adds the cross-entropy of the chosen responses, a mean over their own tokens, for `cpo` too, as in TRL.
 *  5. Dropout is 0, LoRA's included, so that policy and reference differ only in their weights.
 *  6. KTO's z is computed from all batches of the optimizer step before its first gradient. Each response follows the
 *     prompt of another.
 *
 * Deviations from TRL 1.13:
 *
 *  7. Nothing is truncated. A pair is dropped and counted if a side is too long or both are equal; TRL truncates.
 *  8. If all weights are trained, the log-probabilities of the reference are computed once and kept; in TRL an option.
 *  9. Means are over the optimizer step. TRL averages the means of micro-batches and computes KTO's z for each.
 */
import { preferenceLoader } from '../data/loaders/preferences.js'
import type { ResponseLoaderOptions } from '../data/loaders/responses.js'
import { unpairedLoader } from '../data/loaders/unpaired.js'
import { loadPreferences, type PreferenceSet } from '../data/preferences.js'
import { loadUnpaired, type UnpairedSet } from '../data/unpaired.js'
import type { Split } from '../data/validation.js'
import { PosttrainError } from '../errors.js'
import type { CausalLM } from '../models/causal-lm.js'
import type { ResolvedOptions } from '../options/option.js'
import { type PairLossName, pairLoss, pairLossOptions } from '../options/pair-losses.js'
import { resolveOptions } from '../options/validate.js'
import type { DpoOptions } from './options/options.generated.js'
import { type DpoLoss, dpoOptions } from './options/preference.js'
import { prepareAdapter } from './roles/adapter.js'
import { frozenReference } from './roles/reference.js'
import { Resources } from './roles/resources.js'
import type {
  DpoEvaluationEvent,
  DpoStepEvent,
  EndEvent,
  KtoEvaluationEvent,
  KtoStepEvent,
  TrainEvent,
} from './run/events.js'
import { rowForm } from './run/row-form.js'
import { hasStarted, Run, type RunControl } from './run/run.js'
import { ktoObjective, unbalanced } from './supervised/kto.js'
import { superviseTraining } from './supervised/loop.js'
import { pairObjective } from './supervised/preference.js'
import { ReferenceCache } from './supervised/reference-cache.js'
import { sequenceLength } from './supervised/training.js'

type Resolved = ResolvedOptions<typeof dpoOptions>

/** A run of `dpo`, with the events of pairs, or of unpaired responses with loss `kto`. */
export type DpoRun<Loss extends DpoLoss = DpoLoss> = Run<
  Loss extends 'kto' ? KtoStepEvent : DpoStepEvent,
  Loss extends 'kto' ? KtoEvaluationEvent : DpoEvaluationEvent
>

/**
 * Direct preference optimization (DPO; Rafailov et al. 2023, arXiv 2305.18290) and its family: the model learns to prefer
 * chosen to rejected responses, measured by log-ratios to a reference, without a reward model or rollouts. Rows are
 * preference data as for `reward`; with `loss: 'kto'`, unpaired responses with a `label`.
 *
 * The reference is `reference`, else the model as it was at the start: with a new adapter, the base without it; with an
 * adapter that is trained further, a frozen copy of it. If all weights are trained, the log-probabilities of the reference
 * are computed once, before the first step, and kept.
 *
 * ```ts
 * const run = dpo({ model, data: 'preferences.jsonl', lora: { rank: 16 }, output: 'runs/dpo' })
 * for await (const event of run) if (event.type === 'step') console.log(event.step, event.loss, event.margin)
 * ```
 *
 * @throws PosttrainError as `sft` does.
 */
export function dpo<const Loss extends DpoLoss = 'sigmoid'>(
  options: DpoOptions & { loss?: Loss | undefined },
): DpoRun<Loss> {
  const resolved = resolveOptions(dpoOptions, options)
  // `train` yields the events of either kind; the type of `loss` tells which.
  return new Run((control) => train(resolved, control)) as DpoRun<Loss>
}

async function* train(
  options: Resolved,
  control: RunControl,
): AsyncGenerator<
  TrainEvent<DpoStepEvent | KtoStepEvent, DpoEvaluationEvent | KtoEvaluationEvent>,
  EndEvent
> {
  const { model, loss } = options
  const maxLength = sequenceLength(model, options.maxLength)
  const { form, choices, adopted } = await rowForm(options, model)
  if (loss === 'kto') refuseSingleResponses(options)
  const reading = { ...options, maxLength, tokenizer: model.tokenizer, ...form }
  const rows =
    loss === 'kto'
      ? { loss, ...(await loadUnpaired(options.data, reading)) }
      : { loss, ...(await loadPreferences(options.data, reading)) }
  try {
    await using resources = new Resources()
    await using prepared = await prepareAdapter(model, options, hasStarted(control))
    const { adapted } = prepared
    const training = {
      recipe: 'dpo',
      model,
      options: {
        ...options,
        maxLength,
        batchTokens: undefined,
        samples: undefined,
        learningRate: options.learningRate ?? (adapted ? 5e-6 : 1e-6),
        epochs: options.epochs ?? 1,
        sftCoef: loss === 'kto' ? 0 : pairLossOptions(loss, options).sftCoef,
      },
      dropout: false,
      template: adopted(rows.train),
      choices: { maxLength, ...choices },
    }
    const reference = await referenceOf(options, adapted, resources)
    if (rows.loss === 'kto') {
      return yield* superviseTraining(
        { ...training, ...responsesOf(rows, options, reference ?? model, maxLength) },
        control,
      )
    }
    return yield* superviseTraining({ ...training, ...pairsOf(rows, options, reference) }, control)
  } finally {
    await rows.train.store.close()
    await rows.validation?.store.close()
  }
}

/** Throws ERR_INVALID_ARGUMENT for steps of one response, which has no other prompt for KTO's mismatched pairs. */
function refuseSingleResponses({ batchSize = BATCH, gradientAccumulation }: Resolved): void {
  if (batchSize * gradientAccumulation >= 2) return
  throw new PosttrainError(
    'ERR_INVALID_ARGUMENT',
    'dpo: loss kto pairs responses with prompts of other rows and needs two or more rows in a step: raise batchSize or gradientAccumulation',
  )
}

/** Default number of rows in a batch. */
const BATCH = 8

/**
 * The frozen reference; null for a loss without one. If all weights are trained it is the model itself before the first
 * step, whose log-probabilities are kept. KTO's mismatched pairs differ between epochs, so its reference stays in memory.
 */
async function referenceOf(
  { model, loss, reference: given, lora }: Resolved,
  adapted: boolean,
  resources: Resources,
): Promise<CausalLM | null> {
  if (loss !== 'kto' && pairLoss(loss).referenceFree) return null
  if (loss !== 'kto' && given === undefined && !adapted) return model
  const { reference, owned } = await frozenReference(model, { given, added: lora !== undefined })
  return owned ? resources.model(reference) : reference
}

function loadersOf<Set, Batches>(
  rows: Split<Set>,
  { batchSize = BATCH, seed, shuffle }: Resolved,
  loader: (set: Set, options: ResponseLoaderOptions) => Batches,
): Split<Batches> {
  return {
    train: loader(rows.train, { batchSize, seed, shuffle }),
    validation: rows.validation && loader(rows.validation, { batchSize, seed, shuffle: false }),
  }
}

/** Batches and objective of a pair loss. */
function pairsOf(
  { loss, ...rows }: Split<PreferenceSet> & { loss: PairLossName },
  options: Resolved,
  reference: CausalLM | null,
) {
  const { model, signal } = options
  const loaders = loadersOf(rows, options, preferenceLoader)
  const cache = reference && new ReferenceCache(reference, loaders.train)
  const objective = pairObjective(model, cache, { loss, ...pairLossOptions(loss, options) })
  const begin = async () => {
    if (cache === null) return null
    if (reference !== model) return await cache.first(signal)
    for (const loader of [loaders.train, loaders.validation])
      if (loader !== null) await cache.fill(loader, signal)
    const first = await cache.first(signal)
    cache.close()
    return first
  }
  return { ...loaders, objective, begin }
}

/** Batches and objective of KTO, on unpaired preference data. */
function responsesOf(rows: Split<UnpairedSet>, options: Resolved, reference: CausalLM, maxLength: number) {
  const { model, signal, desirableWeight = 1, undesirableWeight = 1, beta = 0.1 } = options
  const loaders = loadersOf(rows, options, unpairedLoader)
  const cache = new ReferenceCache(reference, loaders.train)
  const objective = ktoObjective(model, cache, { beta, desirableWeight, undesirableWeight, maxLength })
  const warnings = unbalanced(rows.train, { desirableWeight, undesirableWeight })
  return { ...loaders, objective, warnings, begin: () => cache.first(signal) }
}
