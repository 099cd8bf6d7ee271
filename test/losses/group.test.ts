import test from 'ava'
import { grpoLoss } from '../../lib/losses/index.js'
import { close } from '../helpers/close.js'
import { refusesBadInput } from '../helpers/loss-cases.js'

const tight = { absolute: 1e-12 }
const of = (...values: number[]) => Float64Array.from(values)

// Two responses of one and three tokens; ratios 2, 1, 1, 0.5
const logProbs = of(Math.log(2) - 3, -1, -2, Math.log(0.5) - 1)
const oldLogProbs = of(-3, -1, -2, -1)
const advantages = of(1, -2, -2, -2)
const offsets = Int32Array.of(0, 1, 4)
const given = { logProbs, oldLogProbs, advantages, offsets, gradient: true }

test('each reduction by hand', async (t) => {
  // -1.2 (clipped), 2, 2, 0.8 * 2 (clipped)
  const tokens = [-1.2, 2, 2, 1.6]
  const sum = 4.4
  const result = {
    dapo: await grpoLoss(given),
    bnpo: await grpoLoss({ ...given, reduction: 'bnpo' }),
    grpo: await grpoLoss({ ...given, reduction: 'grpo' }),
    drGrpo: await grpoLoss({ ...given, reduction: 'drGrpo', maxLength: 5 }),
  }
  close(t, result.dapo.loss, sum / 4, tight)
  close(t, result.bnpo.loss, sum / 4, tight)
  close(t, result.grpo.loss, (tokens[0]! + (2 + 2 + 1.6) / 3) / 2, tight)
  close(t, result.drGrpo.loss, sum / (2 * 5), tight)
  close(t, result.dapo.gradient!, [0, 0.5, 0.5, 0], tight)
  close(t, result.grpo.gradient!, [0, 2 / 6, 2 / 6, 0], tight)
  close(t, result.drGrpo.gradient!, [0, 0.2, 0.2, 0], tight)
  for (const { clipFraction, kl } of Object.values(result)) {
    t.is(clipFraction, 0.5, 'a share of the tokens, however the loss is reduced')
    t.is(kl, 0)
  }
})

test('the penalty is ratio times k3, the ratio differentiated too', async (t) => {
  const one = {
    logProbs: of(Math.log(1.1) - 1),
    oldLogProbs: of(-1),
    advantages: of(0),
    offsets: Int32Array.of(0, 1),
  }
  const d = 0.5
  const result = await grpoLoss({
    ...one,
    referenceLogProbs: one.logProbs.map((x) => x - d),
    beta: 0.3,
    gradient: true,
  })
  const k3 = Math.exp(-d) - 1 + d
  close(t, result.kl, 1.1 * k3, tight)
  close(t, result.loss, 0.3 * 1.1 * k3, tight)
  close(t, result.gradient!, [0.3 * (1.1 * (1 - Math.exp(-d)) + 1.1 * k3)], tight)
})

test('without beta the reference is measured and moves nothing', async (t) => {
  const referenceLogProbs = oldLogProbs.map((x) => x - 0.3)
  const plain = await grpoLoss(given)
  const measured = await grpoLoss({ ...given, referenceLogProbs })
  t.true(measured.kl > 0)
  t.deepEqual({ ...measured, kl: 0 }, plain)
  const drGrpo = await grpoLoss({ ...given, referenceLogProbs, reduction: 'drGrpo', maxLength: 50 })
  close(t, drGrpo.kl, measured.kl, tight, 'a mean over tokens, however the loss is reduced')
})

test('a response of no token changes nothing; no token at all is 0', async (t) => {
  for (const reduction of ['dapo', 'grpo', 'bnpo', 'drGrpo'] as const) {
    const options = { ...given, reduction, maxLength: 5 }
    t.deepEqual(
      await grpoLoss({ ...options, offsets: Int32Array.of(0, 1, 1, 4, 4) }),
      await grpoLoss(options),
    )
    const none = { logProbs: of(), oldLogProbs: of(), advantages: of(), offsets: Int32Array.of(0, 0) }
    t.deepEqual(await grpoLoss({ ...none, reduction, maxLength: 5, gradient: true }), {
      loss: 0,
      kl: 0,
      clipFraction: 0,
      gradient: of(),
    })
  }
})

test('the clip is asymmetric', async (t) => {
  const { loss } = await grpoLoss({ ...given, clipLow: 0.4, clipHigh: 0.5 })
  close(t, loss, (-1.5 + 2 + 2 + 1.2) / 4, tight)
})

test('bad input', async (t) => {
  const good = {
    logProbs,
    oldLogProbs,
    advantages,
    offsets,
    referenceLogProbs: oldLogProbs,
    beta: 0.1,
    reduction: 'drGrpo',
    maxLength: 3,
  }
  await refusesBadInput(
    t,
    'grpoLoss',
    good,
    [],
    [
      { beta: -0.1 },
      { beta: Number.NaN },
      { clipLow: -0.1 },
      { clipHigh: Number.NaN },
      { reduction: 'mean' },
      { maxLength: undefined },
      { maxLength: 0 },
      { maxLength: Number.NaN },
      { offsets: Int32Array.of(0, 3, 1, 4) },
      { offsets: Int32Array.of(1, 4) },
      { offsets: Int32Array.of() },
    ],
  )
})
