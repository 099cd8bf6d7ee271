import test from 'ava'
import { dpoLoss, ktoLoss, type PairLossName, pairwiseRewardLoss } from '../../lib/losses/index.js'
import { PAIR_LOSS_NAMES as kinds } from '../../lib/options/pair-losses.js'
import { close } from '../helpers/close.js'
import { refusesBadInput } from '../helpers/loss-cases.js'

const tight = { absolute: 1e-12 }
const of = (...values: number[]) => Float64Array.from(values)
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))

// lc = 2, lr = -1, d = 3 over 2 and 4 tokens
const pair = {
  chosenLogProbs: of(-4),
  rejectedLogProbs: of(-6),
  chosenReferenceLogProbs: of(-6),
  rejectedReferenceLogProbs: of(-5),
  chosenLengths: Int32Array.of(2),
  rejectedLengths: Int32Array.of(4),
  beta: 0.5,
  labelSmoothing: 0.1,
  gamma: 0.3,
  lambda: 7,
}

test('each kind by hand', async (t) => {
  const [up, down] = [-Math.log(sigmoid(1.5)), -Math.log(sigmoid(-1.5))]
  const q = sigmoid(1.5)
  const m = sigmoid(30)
  const odds = Math.log(Math.exp(-2) / (1 - Math.exp(-2))) - Math.log(Math.exp(-1.5) / (1 - Math.exp(-1.5)))
  const truth: Record<PairLossName, number> = {
    sigmoid: up,
    sigmoidNorm: -Math.log(sigmoid(0.5 * (1 + 0.25))),
    hinge: 0,
    ipo: (1 + 0.25 - 1) ** 2,
    robust: (0.9 * up - 0.1 * down) / 0.8,
    cdpo: 0.9 * up + 0.1 * down,
    bco: -Math.log(sigmoid(1)) - Math.log(sigmoid(0.5)),
    sppo: (2 - 1) ** 2 + (-1 + 1) ** 2,
    nca: -Math.log(sigmoid(1)) - 0.5 * Math.log(sigmoid(-1)) - 0.5 * Math.log(sigmoid(0.5)),
    apoZero: 1 - sigmoid(1) + sigmoid(-0.5),
    apoDown: sigmoid(1) + 1 - q,
    exo: q * Math.log(q / 0.9) + (1 - q) * Math.log((1 - q) / 0.1),
    discopop: (1 - m) * up + m * Math.exp(-1.5),
    // The chosen response has become likelier: no penalty.
    dpop: up,
    simpo: -Math.log(sigmoid(0.5 * (-2 + 1.5) - 0.3)),
    orpo: 2 - 0.5 * Math.log(sigmoid(odds)),
    cpo: -Math.log(sigmoid(0.5 * (-4 + 6))),
  }
  t.is(Object.keys(truth).length, kinds.length)
  for (const kind of kinds) close(t, (await dpoLoss({ ...pair, kind })).loss, truth[kind], tight, kind)
})

test('dpop adds lambda times what the chosen response lost, inside of beta; at no loss it has the gradient of DPO', async (t) => {
  const fallen = { ...pair, kind: 'dpop' as const, chosenReferenceLogProbs: of(-3), gradient: true }
  // lc = -1, lr = -1: d = 0, and 7 from the penalty.
  const result = await dpoLoss(fallen)
  close(t, result.loss, -Math.log(sigmoid(0.5 * (0 - 7))), tight)
  close(t, result.gradient!.chosen, [-0.5 * sigmoid(3.5) * 8], tight)
  close(t, result.gradient!.rejected, [0.5 * sigmoid(3.5)], tight)
  // Rewards are those of DPO.
  t.like(result, { chosenReward: -0.5, rejectedReward: -0.5 })
  const start = { ...pair, chosenReferenceLogProbs: pair.chosenLogProbs, gradient: true }
  t.deepEqual(await dpoLoss({ ...start, kind: 'dpop' }), await dpoLoss({ ...start, kind: 'sigmoid' }))
  t.deepEqual(await dpoLoss({ ...fallen, lambda: 0 }), await dpoLoss({ ...fallen, kind: 'sigmoid' }))
})

test('cpo is sigmoid with a reference that gives both responses the same; its rewards are sums, not means', async (t) => {
  const { chosenReferenceLogProbs: _c, rejectedReferenceLogProbs: _r, chosenLengths: _l, ...alone } = pair
  const result = await dpoLoss({ ...alone, kind: 'cpo', gradient: true })
  const zero = { chosenReferenceLogProbs: of(0), rejectedReferenceLogProbs: of(0) }
  t.deepEqual(result, await dpoLoss({ ...alone, ...zero, kind: 'sigmoid', gradient: true }))
  t.like(result, { chosenReward: -2, rejectedReward: -3, margin: 1, accuracy: 1 })
})

test('an untrained policy: ln 2, no reward, the pairs not won', async (t) => {
  const both = { chosenLogProbs: of(-3, -5), rejectedLogProbs: of(-4, -4) }
  const reference = {
    chosenReferenceLogProbs: both.chosenLogProbs,
    rejectedReferenceLogProbs: both.rejectedLogProbs,
  }
  const result = await dpoLoss({ ...both, ...reference })
  close(t, result.loss, Math.LN2, tight)
  t.like(result, { chosenReward: 0, rejectedReward: 0, accuracy: 0, margin: 0 })
  t.false('gradient' in result)
})

test('rewards, margin and accuracy by hand', async (t) => {
  const result = await dpoLoss({
    chosenLogProbs: of(-1, -3),
    rejectedLogProbs: of(-2, -2),
    chosenReferenceLogProbs: of(-2, -2),
    rejectedReferenceLogProbs: of(-1, -3),
    beta: 0.5,
  })
  t.like(result, { chosenReward: 0, rejectedReward: 0, accuracy: 0.5, margin: 0 })
  const won = await dpoLoss({ ...pair, beta: 0.1 })
  close(t, [won.chosenReward, won.rejectedReward, won.margin, won.accuracy], [0.2, -0.1, 0.3, 1], tight)
})

test('the gradient is that of finite differences, for every kind and far from 0', async (t) => {
  for (const kind of kinds) {
    for (const shift of [0, -8, 11]) {
      const given = { ...pair, kind, rejectedLogProbs: of(-13.5), chosenReferenceLogProbs: of(-6 + shift) }
      const { gradient } = await dpoLoss({ ...given, gradient: true })
      const step = 1e-5
      for (const side of ['chosen', 'rejected'] as const) {
        const name = `${side}LogProbs` as const
        const at = async (by: number) =>
          (await dpoLoss({ ...given, [name]: given[name].map((x) => x + by) })).loss
        const slope = ((await at(step)) - (await at(-step))) / (2 * step)
        close(t, gradient![side][0]!, slope, { absolute: 1e-7, relative: 1e-6 }, `${kind} ${side} ${shift}`)
      }
    }
  }
})

test('every kind is finite for responses 20 000 nats apart and for a certain one', async (t) => {
  const sums = [-20_000, -1e-300, 0]
  for (const kind of kinds) {
    for (const chosen of sums) {
      for (const rejected of sums) {
        const given = { ...pair, kind, chosenLogProbs: of(chosen), rejectedLogProbs: of(rejected) }
        const { loss, gradient } = await dpoLoss({ ...given, gradient: true })
        const values = [loss, gradient!.chosen[0]!, gradient!.rejected[0]!]
        t.true(values.every(Number.isFinite), `${kind} of ${chosen} and ${rejected} is ${values}`)
      }
    }
  }
})

test('KTO by hand; the loss falls as desirable responses rise above z and undesirable ones fall below', async (t) => {
  const given = {
    logProbs: of(-1, -4),
    referenceLogProbs: of(-3, -3),
    desirable: [true, false],
    kl: 0.5,
    beta: 0.2,
  }
  const result = await ktoLoss({ ...given, desirableWeight: 3, undesirableWeight: 2, gradient: true })
  const [good, bad] = [sigmoid(0.2 * (2 - 0.5)), sigmoid(0.2 * (0.5 + 1))]
  close(t, result.losses, [3 * (1 - good), 2 * (1 - bad)], tight)
  close(t, result.loss, (3 * (1 - good) + 2 * (1 - bad)) / 2, tight)
  const slopes = [-3 * 0.2 * good * (1 - good), 2 * 0.2 * bad * (1 - bad)]
  close(
    t,
    result.gradient!,
    slopes.map((slope) => slope / 2),
    tight,
  )
})

test('reward loss by hand', async (t) => {
  const given = { chosen: of(1, 0), rejected: of(-1, 2), gradient: true }
  const plain = await pairwiseRewardLoss(given)
  close(t, plain.loss, (-Math.log(sigmoid(2)) - Math.log(sigmoid(-2))) / 2, tight)
  t.like(plain, { accuracy: 0.5, margin: 0 })
  close(t, plain.gradient!.chosen, [-sigmoid(-2) / 2, -sigmoid(2) / 2], tight)
  close(t, plain.gradient!.rejected, [sigmoid(-2) / 2, sigmoid(2) / 2], tight)
  const more = await pairwiseRewardLoss({ ...given, margins: of(0.5, 0), center: 0.1, weights: of(3, 1) })
  close(t, more.loss, (-3 * Math.log(sigmoid(1.5)) - Math.log(sigmoid(-2)) + 0.1 * 4) / 4, tight)
  t.like(more, { accuracy: 0.75, margin: 1 })
})

test('all pairs of K responses at 1 / C(K, 2) each weigh as one pair', async (t) => {
  const alone = await pairwiseRewardLoss({ chosen: of(1), rejected: of(0) })
  const ranking = await pairwiseRewardLoss({
    chosen: of(1, 2, 2, 2),
    rejected: of(0, 1, 1, 1),
    weights: of(1, 1 / 3, 1 / 3, 1 / 3),
  })
  close(t, ranking.loss, alone.loss, tight)
})

test('a pair of weight 0 changes nothing; no weight, or no pair, is 0', async (t) => {
  const weights = of(1, 0)
  const one = await pairwiseRewardLoss({ chosen: of(1, 5), rejected: of(0, 9), weights, gradient: true })
  t.deepEqual(
    await pairwiseRewardLoss({ chosen: of(1, -2), rejected: of(0, 3), weights, gradient: true }),
    one,
  )
  const zero = { loss: 0, accuracy: 0, margin: 0 }
  const none = { chosen: of(1), rejected: of(0), weights: of(0), gradient: true }
  t.deepEqual(await pairwiseRewardLoss(none), { ...zero, gradient: { chosen: of(0), rejected: of(0) } })
  t.deepEqual(await pairwiseRewardLoss({ chosen: of(), rejected: of() }), zero)
  t.is((await dpoLoss({ chosenLogProbs: of(), rejectedLogProbs: of(), kind: 'simpo', ...noLengths })).loss, 0)
  t.is((await ktoLoss({ logProbs: of(), referenceLogProbs: of(), desirable: [], kl: 0 })).loss, 0)
})
const noLengths = { chosenLengths: Int32Array.of(), rejectedLengths: Int32Array.of() }

const two = {
  chosenLogProbs: of(-4, -2),
  rejectedLogProbs: of(-6, -3),
  chosenLengths: Int32Array.of(2, 1),
  rejectedLengths: Int32Array.of(4, 1),
}
const references = { chosenReferenceLogProbs: of(-6, -2), rejectedReferenceLogProbs: of(-5, -2) }
const badNumbers = [
  { beta: 0 },
  { beta: -0.1 },
  { beta: Number.NaN },
  { beta: Number.POSITIVE_INFINITY },
  { kind: 'dpo' },
  { kind: 3 },
  { labelSmoothing: -0.1 },
  { labelSmoothing: 0.5 },
  { labelSmoothing: Number.NaN },
  { chosenLengths: Int32Array.of(0, 1) },
]

test('DPO: bad input', async (t) => {
  await refusesBadInput(t, 'dpoLoss', { ...two, ...references, kind: 'ipo' }, [], badNumbers)
  const lengths = ['chosenLengths', 'rejectedLengths']
  await refusesBadInput(t, 'dpoLoss', { ...two, ...references }, lengths, badNumbers)
  await refusesBadInput(t, 'dpoLoss', { ...two, kind: 'simpo' }, [], [...badNumbers, { gamma: Number.NaN }])
  const badLambdas = [{ lambda: -1 }, { lambda: Number.NaN }, { lambda: Number.POSITIVE_INFINITY }]
  await refusesBadInput(t, 'dpoLoss', { ...two, ...references, kind: 'dpop' }, lengths, [
    ...badNumbers,
    ...badLambdas,
  ])
  await refusesBadInput(t, 'dpoLoss', { ...two, kind: 'cpo' }, lengths, badNumbers)
  await refusesBadInput(
    t,
    'dpoLoss',
    { ...two, kind: 'orpo' },
    [],
    [...badNumbers, { chosenLogProbs: of(0.5, -1) }],
  )
  await t.throwsAsync(dpoLoss({ ...two, ...references, kind: 'exo', labelSmoothing: 0 }), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /labelSmoothing/,
  })
})

test('KTO: bad input', async (t) => {
  const good = { logProbs: of(-1, -4), referenceLogProbs: of(-3, -3), desirable: [true, false], kl: 0.5 }
  await refusesBadInput(
    t,
    'ktoLoss',
    good,
    [],
    [
      { desirable: [1, 0] },
      { kl: -0.1 },
      { kl: Number.NaN },
      { kl: undefined },
      { beta: 0 },
      { beta: Number.NaN },
      { desirableWeight: -1 },
      { desirableWeight: Number.NaN },
      { undesirableWeight: Number.POSITIVE_INFINITY },
    ],
  )
})

test('reward loss: bad input', async (t) => {
  const good = { chosen: of(1, 2), rejected: of(0, 3), margins: of(0, 1), weights: of(1, 2) }
  await refusesBadInput(
    t,
    'pairwiseRewardLoss',
    good,
    ['margins', 'weights'],
    [{ center: -1 }, { center: Number.NaN }, { weights: of(1, -1) }],
  )
})
