import { mismatched, type UnpairedBatch } from '../../data/loaders/unpaired.js'
import type { UnpairedSet } from '../../data/unpaired.js'
import type { CausalLM } from '../../models/causal-lm.js'
import type { TermOf } from '../../models/terms.js'
import type { KtoEvaluationEvent, KtoMetrics, KtoStepEvent, WarningEvent } from '../run/events.js'
import { ratio, type Sums } from '../run/sums.js'
import type { Objective } from './objective.js'
import { type ReferenceCache, responseLogProbs } from './reference-cache.js'

/** KTO on unpaired responses: z is computed from all batches of a step before its first gradient. */
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
      for (const pairs of mismatched(batches, maxLength)) {
        const policy = await responseLogProbs(model, pairs, signal)
        const frozen = await reference.other(pairs, signal)
        for (const [d, value] of policy.entries()) sum += value - frozen[d]!
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

/** A warning if desirable and undesirable responses are not weighted as recommended (arXiv 2402.01306, section 4.2). */
export function unbalanced(
  { groups: responses }: UnpairedSet,
  { desirableWeight, undesirableWeight }: { desirableWeight: number; undesirableWeight: number },
): readonly Pick<WarningEvent, 'code' | 'message'>[] {
  const desirable = responses.filter((response) => response.desirable).length
  const undesirable = responses.length - desirable
  const balance = (desirableWeight * desirable) / (undesirableWeight * undesirable)
  // A tenth outside the range is chance among a few hundred rows, and harmless.
  if (balance >= 0.9 && balance <= 1.1 * (4 / 3)) return []
  const counts = `Of ${responses.length} responses, ${desirable} are desirable and ${undesirable} are undesirable`
  const message =
    desirable === 0 || undesirable === 0
      ? `${counts}: kto needs both; add rows of the other kind`
      : `${counts}: their weighted ratio is ${balance.toPrecision(2)}, where 1 to 1.33 is recommended; set ${balance < 1 ? 'desirableWeight' : 'undesirableWeight'} to about ${(balance < 1 ? desirableWeight / balance : (undesirableWeight * balance * 3) / 4).toPrecision(2)}`
  return [{ code: 'ktoBalance', message }]
}
