import { as, type FloatArray, invalid, native, need, needLossOptions, optional } from './arrays.js'

/**
 * Generalized advantage estimation (GAE; Schulman et al. 2015, arXiv 1506.02438) over B responses, which `offsets`
 * [B + 1] delimit in rewards and values [N]: delta_t = r_t + gamma V_{t+1} - V_t, A_t = delta_t + gamma lambda A_{t+1},
 * returns = A + V; after the last action of a response V is 0.
 */
export async function gae<A extends FloatArray>(options: {
  rewards: FloatArray
  values: A
  offsets: Int32Array
  /** Default 1. */
  gamma?: number
  /** Default 0.95. */
  lambda?: number
}): Promise<{ advantages: A; returns: A }> {
  needLossOptions('gae', options)
  const { rewards, values, offsets, gamma = 1, lambda = 0.95 } = options
  const result = await native('gae', { rewards, values }, (core) =>
    core.gae({ rewards, values, offsets, gamma, lambda }),
  )
  return { advantages: as(values, result.advantages), returns: as(values, result.returns) }
}

/**
 * Normalizes the values that the mask counts (all without one): (x - mean) / sqrt(variance + 1e-8), the variance
 * unbiased; with `shiftMean: false` the mean is added back. Masked values become 0, and so do all where fewer than two
 * count or they are equal.
 */
export async function whiten<A extends FloatArray>(
  values: A,
  options: { mask?: Uint8Array; shiftMean?: boolean } = {},
): Promise<A> {
  needLossOptions('whiten', options)
  const given = { ...optional('mask', options.mask), shiftMean: options.shiftMean ?? true }
  return as(values, await native('whiten', { values }, (core) => core.whiten(values, given)))
}

/** Offsets of consecutive groups of `groupSize` rewards. */
function groupOffsets(where: string, rewards: FloatArray, groupSize: number): Int32Array {
  need(
    Number.isInteger(groupSize) && groupSize >= 2,
    where,
    'groupSize',
    'a whole number of at least 2',
    groupSize,
  )
  if (rewards.length % groupSize !== 0)
    throw invalid(where, `${rewards.length} rewards do not divide into groups of ${groupSize}`)
  return Int32Array.from({ length: rewards.length / groupSize + 1 }, (_, g) => g * groupSize)
}

/**
 * GRPO's advantages (arXiv 2402.03300) of consecutive groups of `groupSize` rewards: (r - mean of the group) / (std +
 * 1e-4) with the unbiased std of the group ('group', the default) or of all rewards ('batch'), or without division
 * ('none', arXiv 2503.20783). A group whose rewards differ by at most 1e-8 gets 0 and is counted in `withoutSpread`.
 */
export async function grpoAdvantages<A extends FloatArray>(options: {
  rewards: A
  groupSize: number
  scaleRewards?: 'group' | 'batch' | 'none'
}): Promise<{ advantages: A; withoutSpread: number }> {
  needLossOptions('grpoAdvantages', options)
  const { rewards, groupSize, scaleRewards = 'group' } = options
  const result = await native('grpoAdvantages', { rewards }, (core) =>
    core.groupAdvantages({
      rewards,
      offsets: groupOffsets('grpoAdvantages', rewards, groupSize),
      method: 'grpo',
      scaleRewards,
    }),
  )
  return { advantages: as(rewards, result.advantages), withoutSpread: result.withoutSpread }
}

/** RLOO's advantages (arXiv 2402.14740): each reward minus the mean of the others in its group. */
export async function rlooAdvantages<A extends FloatArray>(options: {
  rewards: A
  groupSize: number
}): Promise<{ advantages: A; withoutSpread: number }> {
  needLossOptions('rlooAdvantages', options)
  const { rewards, groupSize } = options
  const result = await native('rlooAdvantages', { rewards }, (core) =>
    core.groupAdvantages({
      rewards,
      offsets: groupOffsets('rlooAdvantages', rewards, groupSize),
      method: 'rloo',
    }),
  )
  return { advantages: as(rewards, result.advantages), withoutSpread: result.withoutSpread }
}
