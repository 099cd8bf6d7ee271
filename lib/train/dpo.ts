import { preferenceLoader } from '../data/loaders/preferences.js'
import type { ResponseLoaderOptions } from '../data/loaders/responses.js'
import { unpairedLoader } from '../data/loaders/unpaired.js'
import { loadPreferences } from '../data/preferences.js'
import { templateOf } from '../data/text/templates.js'
import { loadUnpaired, type UnpairedSet } from '../data/unpaired.js'
import type { Split } from '../data/validation.js'
import { PosttrainError } from '../errors.js'
import type { ResolvedOptions } from '../options/option.js'
import { pairLoss, pairLossOptions } from '../options/pair-losses.js'
import { resolveOptions } from '../options/validate.js'
import type { DpoOptions } from './options/options.generated.js'
import { type DpoLoss, dpoOptions } from './options/preference.js'
import { prepareAdapter } from './roles/adapter.js'
import { frozenReference, release } from './roles/reference.js'
import type {
  DpoEvaluationEvent,
  DpoStepEvent,
  EndEvent,
  KtoEvaluationEvent,
  KtoStepEvent,
  TrainEvent,
  WarningEvent,
} from './run/events.js'
import { hasStarted, Run, type RunControl } from './run/run.js'
import { superviseTraining } from './supervised/loop.js'
import { ktoObjective, pairObjective } from './supervised/preference.js'
import { ReferenceCache } from './supervised/reference-cache.js'
import { sequenceLength } from './supervised/training.js'

type Resolved = ResolvedOptions<typeof dpoOptions>

/** A run of `dpo`: events of pairs, or with loss `kto` those of single responses. */
export type DpoRun<Loss extends DpoLoss = DpoLoss> = Run<
  Loss extends 'kto' ? KtoStepEvent : DpoStepEvent,
  Loss extends 'kto' ? KtoEvaluationEvent : DpoEvaluationEvent
>

/**
 * Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290) and its family: the model learns to prefer the
 * better of two answers, by how much more likely it makes them than a reference does; no reward model, no rollout. Rows
 * are rankings as for `reward`; with `loss: 'kto'` single answers with a `label`.
 *
 * The reference is the model as it was at the start: with an adapter, the base with it off (or a frozen copy of the
 * adapter that is trained on); else its log-probabilities are computed once, before the first step, and kept. With
 * `reference` another model.
 *
 * ```ts
 * const run = dpo({ model, data: 'rankings.jsonl', lora: { rank: 16 }, output: 'runs/dpo' })
 * for await (const event of run) if (event.type === 'step') console.log(event.step, event.loss, event.margin)
 * ```
 *
 * @throws PosttrainError as `sft` does.
 */
export function dpo<const Loss extends DpoLoss = 'sigmoid'>(
  options: DpoOptions & { loss?: Loss | undefined },
): DpoRun<Loss> {
  const resolved = resolveOptions(dpoOptions, options)
  // `train` yields the events of either kind; the literal given says which.
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
  const template = await templateOf(options.template, model)
  const kto = loss === 'kto'
  const batchSize = options.batchSize ?? 8
  if (kto && batchSize * options.gradientAccumulation < 2)
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      'dpo: loss kto puts answers to prompts that they do not answer, and needs two or more in a step: raise batchSize or gradientAccumulation',
    )
  const reading = { ...options, maxLength, tokenizer: model.tokenizer, template }
  const rows = kto
    ? { loss, ...(await loadUnpaired(options.data, reading)) }
    : { loss, ...(await loadPreferences(options.data, reading)) }
  let held: Awaited<ReturnType<typeof frozenReference>> | null = null
  try {
    await using prepared = await prepareAdapter(model, options, hasStarted(control))
    const { adapted } = prepared
    const { seed, shuffle } = options
    const loadersOf = <Set, Batches>(
      { train, validation }: Split<Set>,
      make: (set: Set, options: ResponseLoaderOptions) => Batches,
    ) => ({
      train: make(train, { batchSize, seed, shuffle }),
      validation: validation && make(validation, { batchSize, seed, shuffle: false }),
    })
    const shared = {
      recipe: 'dpo',
      model,
      options: {
        ...options,
        maxLength,
        batchTokens: undefined,
        samples: undefined,
        learningRate: options.learningRate ?? (adapted ? 5e-6 : 1e-6),
        epochs: options.epochs ?? 1,
        sftCoef: kto ? 0 : pairLossOptions(loss, options).sftCoef,
      },
      dropout: false,
      template,
      choices: { maxLength, template: template.name },
    }
    const hold = () =>
      frozenReference(model, {
        given: options.reference,
        added: options.lora !== undefined,
      })
    if (rows.loss === 'kto') {
      // Mismatched answers are others in each epoch: the reference has to stay.
      held = await hold()
      const loaders = loadersOf(rows, unpairedLoader)
      const cache = new ReferenceCache(held.reference, loaders.train)
      const { desirableWeight = 1, undesirableWeight = 1 } = options
      const objective = ktoObjective(model, cache, {
        beta: options.beta ?? 0.1,
        desirableWeight,
        undesirableWeight,
        maxLength,
      })
      const warnings = balanceOf(rows.train, options)
      const begin = () => cache.first(options.signal)
      return yield* superviseTraining({ ...shared, ...loaders, objective, warnings, begin }, control)
    }
    const loaders = loadersOf(rows, preferenceLoader)
    const compares = !pairLoss(rows.loss).referenceFree
    // Where the weights themselves are trained, what they say now is computed once and kept.
    const itself = options.reference === undefined && !adapted
    if (compares && !itself) held = await hold()
    const cache = compares ? new ReferenceCache(held?.reference ?? model, loaders.train) : null
    const objective = pairObjective(model, cache, {
      loss: rows.loss,
      ...pairLossOptions(rows.loss, options),
    })
    const begin = async () => {
      if (cache === null) return null
      if (itself) {
        for (const loader of [loaders.train, loaders.validation])
          if (loader !== null) await cache.fill(loader, options.signal)
      }
      const first = await cache.first(options.signal)
      if (itself) cache.close()
      return first
    }
    return yield* superviseTraining({ ...shared, ...loaders, objective, begin }, control)
  } finally {
    if (held?.owned) await release(held.reference)
    await rows.train.store.close()
    await rows.validation?.store.close()
  }
}

/** KTO wants as much weight on good answers as on bad ones, or up to a third more (arXiv 2402.01306, section 4.2). */
function balanceOf(
  { groups: responses }: UnpairedSet,
  { desirableWeight = 1, undesirableWeight = 1 }: Resolved,
): readonly Pick<WarningEvent, 'code' | 'message'>[] {
  const good = responses.filter(({ desirable }) => desirable).length
  const bad = responses.length - good
  const ratio = (desirableWeight * good) / (undesirableWeight * bad)
  // A tenth beside the range is chance in some hundred rows, and no trouble.
  if (ratio >= 0.9 && ratio <= 1.1 * (4 / 3)) return []
  const counts = `Of ${responses.length} answers ${good} are good and ${bad} are bad`
  const message =
    good === 0 || bad === 0
      ? `${counts}: kto learns from both; add rows of the other kind`
      : `${counts}, which with their weights is ${ratio.toPrecision(2)} to 1, where 1 to 1.33 is recommended: set ${ratio < 1 ? 'desirableWeight' : 'undesirableWeight'} to about ${(ratio < 1 ? desirableWeight / ratio : (undesirableWeight * ratio * 3) / 4).toPrecision(2)}`
  return [{ code: 'ktoBalance', message }]
}
