import { mismatched, type UnpairedBatch } from '../../data/loaders/unpaired.js'
import type { UnpairedSet } from '../../data/unpaired.js'
import type { CausalLM } from '../../models/causal-lm.js'
import type { TermOf } from '../../models/terms.js'
import type { KtoEvaluationEvent, KtoMetrics, KtoStepEvent, WarningEvent } from '../run/events.js'
import { ratio, type Sums } from '../run/sums.js'
import type { Objective } from './objective.js'
import { answerLogProbs, type ReferenceCache } from './reference-cache.js'

/** KTO on single answers: z comes from all batches of a step before the first gradient. */
export function ktoObjective(
  model: CausalLM,
  reference: ReferenceCache,
  given: { beta: number; desirableWeight: number; undesirableWeight: number; maxLength: number },
): Objective<UnpairedBatch, KtoStepEvent, KtoEvaluationEvent> {
  const { maxLength, ...options } = given
  let kl = 0
  const termOf = async (batch: UnpairedBatch, signal: AbortSignal | undefined): Promise<TermOf<'kto'>> => ({
    kind: 'kto',
    ...options,
    kl,
    desirable: batch.desirable,
    referenceSums: await reference.sums(batch, signal),
  })
  const metrics = (sums: Sums): KtoMetrics => {
    const desirable = ratio(sums.desirableReward, sums.desirable)
    const undesirable = ratio(sums.undesirableReward, sums.count - (sums.desirable ?? 0))
    return {
      desirableReward: desirable,
      undesirableReward: undesirable,
      margin: desirable - undesirable,
      kl: ratio(sums.kl, sums.count),
    }
  }
  const withKl = (sums: Sums): Sums => ({ ...sums, kl: kl * sums.count })
  return {
    async prepare(batches, signal) {
      let sum = 0
      let count = 0
      for (const exchanged of mismatched(batches, maxLength)) {
        const policy = await answerLogProbs(model, exchanged, signal)
        const compared = await reference.other(exchanged, signal)
        for (const [d, value] of policy.entries()) sum += value - compared[d]!
        count += policy.length
      }
      kl = Math.max(0, ratio(sum, count))
    },
    async backward(batch, given) {
      return withKl(await model.backward(batch, await termOf(batch, given.signal), given))
    },
    async evaluate(batch, signal) {
      return withKl(await model.evaluate(batch, await termOf(batch, signal), { signal }))
    },
    stepMetrics: metrics,
    evaluationMetrics: metrics,
  }
}

/** A warning where good and bad responses weigh otherwise than recommended (arXiv 2402.01306, section 4.2). */
export function unbalanced(
  { groups: responses }: UnpairedSet,
  { desirableWeight, undesirableWeight }: { desirableWeight: number; undesirableWeight: number },
): readonly Pick<WarningEvent, 'code' | 'message'>[] {
  const good = responses.filter(({ desirable }) => desirable).length
  const bad = responses.length - good
  const balance = (desirableWeight * good) / (undesirableWeight * bad)
  // A tenth beside the range is chance in some hundred rows, and no trouble.
  if (balance >= 0.9 && balance <= 1.1 * (4 / 3)) return []
  const counts = `Of ${responses.length} answers ${good} are good and ${bad} are bad`
  const message =
    good === 0 || bad === 0
      ? `${counts}: kto learns from both; add rows of the other kind`
      : `${counts}, which with their weights is ${balance.toPrecision(2)} to 1, where 1 to 1.33 is recommended: set ${balance < 1 ? 'desirableWeight' : 'undesirableWeight'} to about ${(balance < 1 ? desirableWeight / balance : (undesirableWeight * balance * 3) / 4).toPrecision(2)}`
  return [{ code: 'ktoBalance', message }]
}
