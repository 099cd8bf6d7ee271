import test from 'ava'
import { klPenalty, ppoClipLoss, ppoValueLoss } from '../../lib/losses/index.js'
import { close } from '../helpers/close.js'
import { refusesBadInput } from '../helpers/loss-cases.js'

const tight = { absolute: 1e-12 }
const of = (...values: number[]) => Float64Array.from(values)
// Ratios 1.5, 1.5, 0.5, 0.5, 1
const oldLogProbs = of(-1, -1, -1, -1, -1)
const logProbs = of(1.5, 1.5, 0.5, 0.5, 1).map((ratio) => Math.log(ratio) - 1)
const advantages = of(2, -1, 3, -2, 4)

test('policy loss by hand: each side of the clip', async (t) => {
  const result = await ppoClipLoss({ logProbs, oldLogProbs, advantages, gradient: true })
  // -1.2 * 2, 1.5, -0.5 * 3, 0.8 * 2, -4: the first and the fourth are clipped
  close(t, result.loss, (-2.4 + 1.5 - 1.5 + 1.6 - 4) / 5, tight)
  close(t, result.clipFraction, 2 / 5, tight)
  close(t, result.approxKl, (0.5 * (2 * Math.log(1.5) ** 2 + 2 * Math.log(0.5) ** 2)) / 5, tight)
  close(t, result.gradient!, [0, 1.5 / 5, -1.5 / 5, 0, -4 / 5], tight, 'gradient')
})

test('dual clip bounds the loss of a negative advantage alone', async (t) => {
  const given = { logProbs: of(2, 2), oldLogProbs: of(0, 0), advantages: of(-1, 1), gradient: true }
  const plain = await ppoClipLoss(given)
  close(t, plain.loss, (Math.exp(2) - 1.2) / 2, tight)
  const bounded = await ppoClipLoss({ ...given, dualClip: 3 })
  close(t, bounded.loss, (3 - 1.2) / 2, tight)
  close(t, bounded.gradient!, [0, 0], tight, 'gradient')
  close(t, bounded.clipFraction, 1, tight)
})

test('a log-ratio of 1000 gives what one of 20 gives, and no gradient', async (t) => {
  const given = { oldLogProbs: of(0), advantages: of(-1), gradient: true }
  const result = await ppoClipLoss({ ...given, logProbs: of(1000) })
  close(t, result.loss, Math.exp(20), { relative: 1e-12 })
  t.deepEqual(result.gradient, of(0))
})

test('value loss by hand', async (t) => {
  const values = of(1, 1, 0.1)
  const given = { values, oldValues: of(0, 0, 0), returns: of(2, 0, 1), gradient: true }
  // Clipped to 0.2: (0.2 - 2)² over (1 - 2)²; (1 - 0)² over 0.2²; the third is within
  const result = await ppoValueLoss(given)
  close(t, result.loss, (0.5 * (1.8 ** 2 + 1 + 0.9 ** 2)) / 3, tight)
  close(t, result.clipFraction, 1 / 3, tight)
  close(t, result.gradient!, [0, 1 / 3, -0.9 / 3], tight, 'gradient')
  const free = await ppoValueLoss({ ...given, clip: null })
  close(t, free.loss, (0.5 * (1 + 1 + 0.9 ** 2)) / 3, tight)
  t.is(free.clipFraction, 0)
})

test('KL penalties by hand', async (t) => {
  const given = { logProbs: of(-1, -2), referenceLogProbs: of(-2, -1.5), coefficient: 2, gradient: true }
  const k1 = await klPenalty({ ...given, estimator: 'k1' })
  close(t, k1.loss, 2 * ((1 - 0.5) / 2), tight)
  close(t, k1.gradient!, [1, 1], tight)
  const k2 = await klPenalty({ ...given, estimator: 'k2' })
  close(t, k2.loss, 2 * ((0.5 + 0.125) / 2), tight)
  close(t, k2.gradient!, [1, -0.5], tight)
  const k3 = await klPenalty({ ...given, estimator: 'k3' })
  close(t, k3.loss, 2 * ((Math.exp(-1) - 1 + 1 + Math.exp(0.5) - 1 - 0.5) / 2), tight)
  close(t, k3.gradient!, [1 - Math.exp(-1), 1 - Math.exp(0.5)], tight)
  const rows = {
    logProbs: of(0.25, 0.75).map(Math.log),
    referenceLogProbs: of(0.5, 0.5).map(Math.log),
    columns: 2,
    estimator: 'full',
  } as const
  const forward = 0.5 * Math.log(2) + 0.5 * Math.log(2 / 3)
  const reverse = 0.25 * Math.log(0.5) + 0.75 * Math.log(1.5)
  close(t, (await klPenalty(rows)).loss, 0.1 * forward, tight)
  close(t, (await klPenalty({ ...rows, direction: 'reverse' })).loss, 0.1 * reverse, tight)
})

test('a policy that is its reference has no penalty', async (t) => {
  const referenceLogProbs = of(0.2, 0.3, 0.5).map(Math.log)
  for (const estimator of ['k1', 'k2', 'k3'] as const)
    t.is((await klPenalty({ logProbs: referenceLogProbs, referenceLogProbs, estimator })).loss, 0)
  const full = { logProbs: referenceLogProbs, referenceLogProbs, columns: 3, estimator: 'full' } as const
  t.is((await klPenalty(full)).loss, 0)
})

test('masked tokens change nothing', async (t) => {
  const mask = Uint8Array.of(1, 0, 1, 1, 0)
  const changed = (values: Float64Array) => values.map((value, i) => (mask[i] ? value : 5 - 3 * value))
  const policy = { logProbs, oldLogProbs, advantages, mask, gradient: true }
  const one = await ppoClipLoss(policy)
  t.deepEqual(
    await ppoClipLoss({ ...policy, logProbs: changed(logProbs), advantages: changed(advantages) }),
    one,
  )
  t.deepEqual([one.gradient![1], one.gradient![4]], [0, 0])
  const value = { values: logProbs, oldValues: oldLogProbs, returns: advantages, mask, gradient: true }
  t.deepEqual(
    await ppoValueLoss({ ...value, values: changed(logProbs), returns: changed(advantages) }),
    await ppoValueLoss(value),
  )
  for (const estimator of ['k1', 'k2', 'k3'] as const) {
    const kl = { logProbs, referenceLogProbs: oldLogProbs, mask, estimator, gradient: true }
    t.deepEqual(await klPenalty({ ...kl, logProbs: changed(logProbs) }), await klPenalty(kl))
  }
})

test('all masked, or no token at all, is 0', async (t) => {
  for (const count of [0, 5]) {
    const [a, b, c] = [logProbs, oldLogProbs, advantages].map((values) => values.slice(0, count))
    const mask = new Uint8Array(count)
    const gradient = new Float64Array(count)
    t.deepEqual(await ppoClipLoss({ logProbs: a!, oldLogProbs: b!, advantages: c!, mask, gradient: true }), {
      loss: 0,
      clipFraction: 0,
      approxKl: 0,
      gradient,
    })
    t.deepEqual(await ppoValueLoss({ values: a!, oldValues: b!, returns: c!, mask, gradient: true }), {
      loss: 0,
      clipFraction: 0,
      gradient,
    })
    const kl = { logProbs: a!, referenceLogProbs: b!, mask, estimator: 'k3', gradient: true } as const
    t.deepEqual(await klPenalty(kl), { loss: 0, gradient })
  }
  const none = new Float64Array(0)
  t.is((await klPenalty({ logProbs: none, referenceLogProbs: none, columns: 3, estimator: 'full' })).loss, 0)
})

const mask = Uint8Array.of(1, 0, 1, 1, 0)

test('policy loss: bad input', async (t) => {
  await refusesBadInput(
    t,
    'ppoClipLoss',
    { logProbs, oldLogProbs, advantages, mask },
    ['mask'],
    [{ clip: -0.1 }, { clip: Number.NaN }, { clip: '0.2' }, { dualClip: 1 }, { dualClip: Number.NaN }],
  )
})

test('value loss: bad input', async (t) => {
  const good = { values: logProbs, oldValues: oldLogProbs, returns: advantages, mask }
  await refusesBadInput(t, 'ppoValueLoss', good, ['mask'], [{ clip: -1 }, { clip: Number.NaN }])
})

test('KL penalty: bad input', async (t) => {
  const good = { logProbs, referenceLogProbs: oldLogProbs }
  await refusesBadInput(
    t,
    'klPenalty',
    { ...good, mask, estimator: 'k3' },
    ['mask'],
    [{ estimator: 'k4' }, { estimator: undefined }, { coefficient: Number.NaN }],
  )
  const full = {
    logProbs: new Float64Array(6),
    referenceLogProbs: new Float64Array(6),
    estimator: 'full',
    columns: 3,
  }
  await refusesBadInput(
    t,
    'klPenalty',
    full,
    [],
    [{ columns: 4 }, { columns: 0 }, { columns: 1.5 }, { columns: undefined }, { direction: 'backward' }],
  )
})
