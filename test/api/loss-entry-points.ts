import { type EntryPoint, entry, type Given } from './entry-point.js'

export function lossFunctions({ losses }: Given): EntryPoint[] {
  const reals = () => Float64Array.of(0.1, 0.2)
  const { chosenLogProbs, rejectedLogProbs } = { chosenLogProbs: reals(), rejectedLogProbs: reals() }
  const reference = { chosenReferenceLogProbs: reals(), rejectedReferenceLogProbs: reals() }
  const loss = (name: keyof typeof losses, options: Record<string, unknown>) =>
    entry(name, (value) => (losses[name] as (value: unknown) => unknown)(value), [], options)
  return [
    loss('dpoLoss', {
      chosenLogProbs,
      rejectedLogProbs,
      ...reference,
      kind: 'sigmoid',
      beta: 0.1,
      gradient: true,
    }),
    loss('ktoLoss', {
      logProbs: reals(),
      referenceLogProbs: reals(),
      desirable: [true, false],
      kl: 0,
      beta: 0.1,
    }),
    loss('pairwiseRewardLoss', { chosen: reals(), rejected: reals(), margins: reals(), center: 0 }),
    loss('ppoClipLoss', {
      logProbs: reals(),
      oldLogProbs: reals(),
      advantages: reals(),
      mask: Uint8Array.of(1, 1),
      clip: 0.2,
      dualClip: 3,
    }),
    loss('ppoValueLoss', {
      values: reals(),
      oldValues: reals(),
      returns: reals(),
      mask: Uint8Array.of(1, 1),
      clip: 0.2,
    }),
    loss('klPenalty', {
      logProbs: reals(),
      referenceLogProbs: reals(),
      estimator: 'k1',
      mask: Uint8Array.of(1, 1),
      coefficient: 1,
    }),
    loss('grpoLoss', {
      logProbs: reals(),
      oldLogProbs: reals(),
      advantages: reals(),
      offsets: Int32Array.of(0, 1, 2),
      mask: Uint8Array.of(1, 1),
      reduction: 'dapo',
    }),
    loss('gae', { rewards: reals(), values: reals(), offsets: Int32Array.of(0, 2), gamma: 1, lambda: 1 }),
    loss('grpoAdvantages', { rewards: reals(), groupSize: 2, scaleRewards: 'group' }),
    loss('rlooAdvantages', { rewards: reals(), groupSize: 2 }),
    entry('whiten', (...args) => losses.whiten(...(args as [never])), [reals()], {
      mask: Uint8Array.of(1, 1),
      shiftMean: true,
    }),
    entry(
      'crossEntropy',
      (...args) => losses.crossEntropy(...(args as [never, never])),
      [reals(), Int32Array.of(0)],
      { ignoreIndex: -100, gradient: true },
    ),
  ]
}
