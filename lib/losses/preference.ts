import { PAIR_LOSS_NAMES, type PairLossName, pairLoss, pairLossOptions } from '../options/pair-losses.js'
import {
  as,
  type FloatArray,
  invalid,
  native,
  need,
  needFinite,
  needInt32,
  needLossOptions,
  optional,
} from './arrays.js'

const sum = (values: Iterable<number>) => {
  let total = 0
  for (const value of values) total += value
  return total
}

function lengthsOf(name: string, values: Int32Array | undefined): Float64Array | undefined {
  if (values === undefined) return undefined
  needInt32('dpoLoss', name, values)
  const at = values.findIndex((length) => length < 1)
  if (at >= 0) throw invalid('dpoLoss', `${name}[${at}] must be at least 1, got ${values[at]}`)
  return Float64Array.from(values)
}

/**
 * The DPO family (Rafailov et al. 2023, arXiv 2305.18290) on P pairs of responses, from the summed log-probability of
 * each; the mean over pairs. `kind` names the loss: with lc and lr = log p - log p_ref of the chosen and the rejected
 * response and d = lc - lr, `sigmoid` is -log sigmoid(beta d). native/losses/preference.h has the other formulas with
 * their sources; lib/options/pair-losses.ts lists which need the lengths in tokens, which need no reference, and the
 * defaults, which are those of `dpo`. The cross-entropy that `dpo` adds by `sftCoef` is not included.
 *
 * chosenReward and rejectedReward are the means of beta lc and beta lr (without a reference, of beta log p), divided by
 * the lengths where the loss does so; accuracy is the share of pairs in which the chosen reward is higher. `gradient` is
 * with respect to both log-probabilities.
 */
export async function dpoLoss<A extends FloatArray>(options: {
  chosenLogProbs: A
  rejectedLogProbs: FloatArray
  chosenReferenceLogProbs?: FloatArray
  rejectedReferenceLogProbs?: FloatArray
  chosenLengths?: Int32Array
  rejectedLengths?: Int32Array
  /** Default 'sigmoid'. */
  kind?: PairLossName
  /** Strength of the KL constraint. Default 0.1; simpo 2. */
  beta?: number
  /** Share of mislabeled pairs, in [0, 0.5). Default 0; exo 0.001, and it needs more than 0. */
  labelSmoothing?: number
  /** Margin of simpo. Default 1. */
  gamma?: number
  /** Penalty of dpop on chosen responses less likely than under the reference. Default 50. */
  lambda?: number
  gradient?: boolean
}): Promise<{
  loss: number
  losses: A
  chosenReward: number
  rejectedReward: number
  accuracy: number
  margin: number
  gradient?: { chosen: A; rejected: A }
}> {
  needLossOptions('dpoLoss', options)
  const { chosenLogProbs, rejectedLogProbs, chosenReferenceLogProbs, rejectedReferenceLogProbs } = options
  const { kind = 'sigmoid' } = options
  if (!PAIR_LOSS_NAMES.includes(kind))
    throw invalid('dpoLoss', `kind must be one of ${PAIR_LOSS_NAMES.join(', ')}, got ${kind}`)
  const { beta, labelSmoothing, gamma, lambda } = pairLossOptions(kind, options)
  const { referenceFree, lengths: perToken } = pairLoss(kind)
  const referenced = !referenceFree
  if (referenced && (chosenReferenceLogProbs === undefined || rejectedReferenceLogProbs === undefined)) {
    throw invalid('dpoLoss', `kind ${kind} needs chosenReferenceLogProbs and rejectedReferenceLogProbs`)
  }
  if (perToken && (options.chosenLengths === undefined || options.rejectedLengths === undefined)) {
    throw invalid('dpoLoss', `kind ${kind} needs chosenLengths and rejectedLengths`)
  }
  const arrays = {
    chosenLogProbs,
    rejectedLogProbs,
    ...optional('chosenReferenceLogProbs', chosenReferenceLogProbs),
    ...optional('rejectedReferenceLogProbs', rejectedReferenceLogProbs),
  }
  needFinite('dpoLoss', arrays)
  if (kind === 'orpo' && [...chosenLogProbs, ...rejectedLogProbs].some((value) => value > 0)) {
    throw invalid('dpoLoss', 'kind orpo needs log-probabilities of at most 0')
  }
  const chosenLengths = lengthsOf('chosenLengths', options.chosenLengths)
  const rejectedLengths = lengthsOf('rejectedLengths', options.rejectedLengths)
  const result = await native('dpoLoss', {}, (core) =>
    core.dpoLosses({
      chosenLogProbs,
      rejectedLogProbs,
      ...(referenced && optional('chosenReferenceLogProbs', chosenReferenceLogProbs)),
      ...(referenced && optional('rejectedReferenceLogProbs', rejectedReferenceLogProbs)),
      ...optional('chosenLengths', chosenLengths),
      ...optional('rejectedLengths', rejectedLengths),
      loss: kind,
      beta,
      labelSmoothing,
      gamma,
      lambda,
    }),
  )
  const pairs = chosenLogProbs.length
  const mean = (values: Iterable<number>) => (pairs === 0 ? 0 : sum(values) / pairs)
  const rewards = (of: FloatArray, reference: FloatArray | undefined, length: FloatArray | undefined) =>
    Array.from(of, (value, i) => {
      if (referenced) return beta * (value - reference![i]!)
      return beta * (perToken ? value / length![i]! : value)
    })
  const chosen = rewards(chosenLogProbs, chosenReferenceLogProbs, chosenLengths)
  const rejected = rewards(rejectedLogProbs, rejectedReferenceLogProbs, rejectedLengths)
  const scaled = (values: Float64Array) =>
    as(
      chosenLogProbs,
      values.map((value) => value / pairs),
    )
  return {
    loss: mean(result.losses),
    losses: as(chosenLogProbs, result.losses),
    chosenReward: mean(chosen),
    rejectedReward: mean(rejected),
    accuracy: mean(chosen.map((reward, i) => Number(reward > rejected[i]!))),
    margin: mean(chosen.map((reward, i) => reward - rejected[i]!)),
    ...(options.gradient && {
      gradient: { chosen: scaled(result.chosen), rejected: scaled(result.rejected) },
    }),
  }
}

/**
 * KTO (Ethayarajh et al. 2024, arXiv 2402.01306) on N labeled responses, from the summed log-probability of each: the
 * mean of desirableWeight (1 - sigmoid(beta (l - z))) for desirable responses and undesirableWeight (1 - sigmoid(beta
 * (z - l))) for others, with l = log p - log p_ref and z = `kl`, the mean l of mismatched responses, at least 0 and not
 * differentiated.
 */
export async function ktoLoss<A extends FloatArray>(options: {
  logProbs: A
  referenceLogProbs: FloatArray
  desirable: readonly boolean[]
  kl: number
  /** Default 0.1. */
  beta?: number
  /** Default 1. */
  desirableWeight?: number
  undesirableWeight?: number
  gradient?: boolean
}): Promise<{ loss: number; losses: A; gradient?: A }> {
  needLossOptions('ktoLoss', options)
  const { logProbs, referenceLogProbs, kl, beta = 0.1, desirableWeight = 1, undesirableWeight = 1 } = options
  need(beta > 0 && Number.isFinite(beta), 'ktoLoss', 'beta', 'above 0', beta)
  need(kl >= 0 && Number.isFinite(kl), 'ktoLoss', 'kl', 'at least 0', kl)
  for (const [field, weight] of Object.entries({ desirableWeight, undesirableWeight }))
    need(weight >= 0 && Number.isFinite(weight), 'ktoLoss', field, 'at least 0', weight)
  if (!Array.isArray(options.desirable) || options.desirable.some((value) => typeof value !== 'boolean'))
    throw invalid('ktoLoss', 'desirable must be a list of true and false')
  const desirable = Uint8Array.from(options.desirable, Number)
  const result = await native('ktoLoss', { logProbs, referenceLogProbs }, (core) =>
    core.ktoLosses({ logProbs, referenceLogProbs, desirable, beta, desirableWeight, undesirableWeight, kl }),
  )
  const count = Math.max(1, logProbs.length)
  return {
    loss: sum(result.losses) / count,
    losses: as(logProbs, result.losses),
    ...(options.gradient && {
      gradient: as(
        logProbs,
        result.chosen.map((slope) => slope / count),
      ),
    }),
  }
}

/**
 * The reward model's loss on P pairs of scores (Bradley & Terry 1952): the weighted mean of -log sigmoid(chosen -
 * rejected - margin) + center (chosen + rejected)². `gradient` is with respect to both scores.
 */
export async function pairwiseRewardLoss<A extends FloatArray>(options: {
  chosen: A
  rejected: FloatArray
  /** Target difference of each pair's scores; default 0. */
  margins?: FloatArray
  /** Default 1. */
  weights?: FloatArray
  /** Keeps scores near 0 (arXiv 2312.09244); default 0, 0.01 is recommended. */
  center?: number
  gradient?: boolean
}): Promise<{ loss: number; accuracy: number; margin: number; gradient?: { chosen: A; rejected: A } }> {
  needLossOptions('pairwiseRewardLoss', options)
  const { chosen, rejected, weights, center = 0 } = options
  needFinite('pairwiseRewardLoss', { chosen, rejected, ...optional('weights', weights) })
  const margins = options.margins ?? new Float64Array(chosen.length)
  need(center >= 0 && Number.isFinite(center), 'pairwiseRewardLoss', 'center', 'at least 0', center)
  if (weights !== undefined && (weights.length !== chosen.length || weights.some((weight) => weight < 0))) {
    throw invalid('pairwiseRewardLoss', 'weights must be one number of at least 0 for each pair')
  }
  const result = await native('pairwiseRewardLoss', { margins }, (core) =>
    core.pairwiseLosses({ chosen, rejected, margins, center }),
  )
  const weightOf = (i: number) => weights?.[i] ?? 1
  const total = sum(Array.from(chosen, (_, i) => weightOf(i)))
  const mean = (of: (i: number) => number) =>
    total === 0 ? 0 : sum(Array.from(chosen, (_, i) => weightOf(i) * of(i))) / total
  const scaled = (slopes: Float64Array) =>
    as(
      chosen,
      slopes.map((slope, i) => (total === 0 ? 0 : (weightOf(i) * slope) / total)),
    )
  return {
    loss: mean((i) => result.losses[i]!),
    accuracy: mean((i) => Number(chosen[i]! > rejected[i]!)),
    margin: mean((i) => chosen[i]! - rejected[i]!),
    ...(options.gradient && {
      gradient: { chosen: scaled(result.chosen), rejected: scaled(result.rejected) },
    }),
  }
}
