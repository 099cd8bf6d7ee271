import { type JudgedSet, loadPreferences, loadUnpaired } from '../data/judged.js'
import { preferenceLoader, unpairedLoader } from '../data/judged-loader.js'
import { templateOf } from '../data/templates.js'
import { WITHOUT_REFERENCE } from '../losses/preference.js'
import type { OptionInput, ResolvedOptions } from '../options/option.js'
import { resolveOptions } from '../options/validate.js'
import { prepareAdapter } from './adapter.js'
import { ktoObjective, pairObjective } from './dpo-objective.js'
import type {
  DpoMetrics,
  DpoStepEvent,
  EndEvent,
  EvaluationBase,
  KtoMetrics,
  KtoStepEvent,
  TrainEvent,
  WarningEvent,
} from './events.js'
import { dpoOptions } from './preference-options.js'
import { frozenReference } from './reference.js'
import { ReferenceCache } from './reference-cache.js'
import { Run, type RunControl } from './run.js'
import { sequenceLength, superviseTraining } from './supervised-training.js'

export type DpoOptions = OptionInput<typeof dpoOptions>
type Resolved = ResolvedOptions<typeof dpoOptions>

/** Means over the validation rows. */
export type DpoEvaluationEvent = EvaluationBase & (DpoMetrics | KtoMetrics)
export type DpoRun = Run<DpoStepEvent | KtoStepEvent, DpoEvaluationEvent>

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
export function dpo(options: DpoOptions): DpoRun {
  const resolved = resolveOptions(dpoOptions, options)
  return new Run((control) => train(resolved, control))
}

async function* train(
  options: Resolved,
  control: RunControl,
): AsyncGenerator<TrainEvent<DpoStepEvent | KtoStepEvent, DpoEvaluationEvent>, EndEvent> {
  const { model, loss } = options
  const maxLength = sequenceLength(model, options.maxLength)
  const template = await templateOf(options.template, model.tokenizer)
  const load = loss === 'kto' ? loadUnpaired : loadPreferences
  const rows = await load(options.data, { ...options, maxLength, tokenizer: model.tokenizer, template })
  const cache = await referenceOf(options, [rows.train, rows.validation])
  try {
    const adapted = model.adapter !== null
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
      },
      dropout: false,
      template,
      choices: { maxLength, template: template.name },
    }
    const batching = { batchSize: options.batchSize ?? 8, seed: options.seed }
    const { shuffle } = options
    if (loss === 'kto') {
      const loader = (set: JudgedSet, shuffled: boolean) =>
        unpairedLoader(set, { ...batching, maxLength, shuffle: shuffled })
      return yield* superviseTraining(
        {
          ...shared,
          objective: ktoObjective(model, cache!, {
            beta: options.beta ?? 0.1,
            desirableWeight: options.desirableWeight ?? 1,
            undesirableWeight: options.undesirableWeight ?? 1,
          }),
          train: loader(rows.train, shuffle),
          validation: rows.validation && loader(rows.validation, false),
          warnings: balanceOf(rows.train, options),
        },
        control,
      )
    }
    const loader = (set: JudgedSet, shuffled: boolean) =>
      preferenceLoader(set, { ...batching, shuffle: shuffled })
    return yield* superviseTraining(
      {
        ...shared,
        objective: pairObjective(model, cache, {
          loss,
          beta: options.beta ?? (loss === 'simpo' ? 2 : 0.1),
          labelSmoothing: options.labelSmoothing ?? (loss === 'exo' ? 1e-3 : 0),
          gamma: options.gamma ?? 1,
          sftCoef: options.sftCoef,
        }),
        train: loader(rows.train, shuffle),
        validation: rows.validation && loader(rows.validation, false),
      },
      control,
    )
  } finally {
    await cache?.dispose()
    await rows.train.store.close()
    await rows.validation?.store.close()
  }
}

/** KTO wants as much weight on good answers as on bad ones, or up to a third more (arXiv 2402.01306, section 4.2). */
function balanceOf(
  { judgements }: JudgedSet,
  { desirableWeight = 1, undesirableWeight = 1 }: Resolved,
): readonly Pick<WarningEvent, 'code' | 'message'>[] {
  const good = judgements.filter(({ desirable }) => desirable).length
  const bad = judgements.length - good
  const ratio = (desirableWeight * good) / (undesirableWeight * bad)
  // A tenth beside the range is chance in some hundred rows, and no trouble.
  if (ratio >= 0.9 && ratio <= 1.1 * (4 / 3)) return []
  const counts = `Of ${judgements.length} answers ${good} are good and ${bad} are bad`
  const message =
    good === 0 || bad === 0
      ? `${counts}: kto learns from both; add rows of the other kind`
      : `${counts}, which with their weights is ${ratio.toPrecision(2)} to 1, where 1 to 1.33 is recommended: set ${ratio < 1 ? 'desirableWeight' : 'undesirableWeight'} to about ${(ratio < 1 ? desirableWeight / ratio : (undesirableWeight * ratio * 3) / 4).toPrecision(2)}`
  return [{ code: 'ktoBalance', message }]
}

/** The log-probabilities to compare with, taken before anything is trained; null for losses without a reference. */
async function referenceOf(options: Resolved, sets: (JudgedSet | null)[]): Promise<ReferenceCache | null> {
  const { model, loss, reference: given, signal } = options
  if (loss !== 'kto' && WITHOUT_REFERENCE.includes(loss)) {
    await prepareAdapter(model, options)
    return null
  }
  const whole = given === undefined && options.lora === undefined && model.adapter === null
  if (whole) {
    // The weights themselves are trained: what they say now is computed once and kept.
    const cache = new ReferenceCache(model, false)
    for (const set of sets) if (set !== null) await cache.fill(set, signal)
    if (loss !== 'kto') return cache.closed()
    // KTO's mismatched answers differ in each batch, so the reference must stay.
    const { reference } = await frozenReference(model, { given, added: false, name: 'reference' })
    return new ReferenceCache(reference, true)
  }
  await prepareAdapter(model, options)
  const { reference, owned } = await frozenReference(model, {
    given,
    added: options.lora !== undefined,
    name: 'reference',
  })
  return new ReferenceCache(reference, owned)
}
