import test from 'ava'
import { gae, grpoAdvantages, rlooAdvantages, whiten } from '../../lib/losses/index.js'
import { close } from '../helpers/close.js'
import { refusesBadInput } from '../helpers/loss-cases.js'

const tight = { absolute: 1e-12 }
const of = (...values: number[]) => Float64Array.from(values)

test('gae by hand, the next response not looked at', async (t) => {
  const result = await gae({
    rewards: of(0, 1, 5),
    values: of(0.5, 0.25, 2),
    offsets: Int32Array.of(0, 2, 2, 3),
    gamma: 0.5,
    lambda: 0.5,
  })
  // Last: 1 - 0.25; first: 0 + 0.5 * 0.25 - 0.5 + 0.25 * 0.75
  close(t, result.advantages, [-0.1875, 0.75, 3], tight)
  close(t, result.returns, [0.3125, 1, 5], tight)
})

test('gae with gamma = lambda = 1: the return is the sum of the rewards to come', async (t) => {
  const rewards = of(1, 2, 4, 8)
  const { returns } = await gae({
    rewards,
    values: of(3, -1, 7, 2),
    offsets: Int32Array.of(0, 3, 4),
    lambda: 1,
  })
  close(t, returns, [7, 6, 4, 8], tight)
})

test('whitened by hand', async (t) => {
  close(t, await whiten(of(1, 2, 3)), [-1, 0, 1], { absolute: 1e-7 })
  close(t, await whiten(of(1, 2, 3), { shiftMean: false }), [1, 2, 3], { absolute: 1e-7 })
  close(t, await whiten(of(2, 4, 6), { shiftMean: false }), [3, 4, 5], { absolute: 1e-7 })
})

test('what is masked changes nothing and becomes 0; fewer than two, or equal ones, are 0', async (t) => {
  const mask = Uint8Array.of(1, 0, 1, 1)
  const one = await whiten(of(1, 100, 2, 3), { mask })
  t.deepEqual(await whiten(of(1, -7, 2, 3), { mask }), one)
  t.is(one[1], 0)
  for (const shiftMean of [true, false]) {
    t.deepEqual(await whiten(of(5, 7), { mask: Uint8Array.of(0, 1), shiftMean }), of(0, 0))
    t.deepEqual(await whiten(of(5, 7), { mask: Uint8Array.of(0, 0), shiftMean }), of(0, 0))
    t.deepEqual(await whiten(of(), { shiftMean }), of())
    // The mean of three times 0.1 is not 0.1.
    t.deepEqual(await whiten(of(0.1, 0.1, 0.1), { shiftMean }), of(0, 0, 0))
  }
})

test('GRPO’s advantages by hand', async (t) => {
  const rewards = of(1, 3, 0, 4)
  const by = async (scaleRewards: 'group' | 'batch' | 'none') =>
    (await grpoAdvantages({ rewards, groupSize: 2, scaleRewards })).advantages
  close(t, await by('none'), [-1, 1, -2, 2], tight)
  const [first, second] = [1 / (Math.SQRT2 + 1e-4), 2 / (Math.sqrt(8) + 1e-4)]
  close(t, await by('group'), [-first, first, -second, second], tight)
  const all = Math.sqrt((1 + 1 + 4 + 4) / 3) + 1e-4
  close(t, await by('batch'), [-1 / all, 1 / all, -2 / all, 2 / all], tight)
})

test('a group whose rewards are within 1e-8 gets exactly 0 and is counted', async (t) => {
  const rewards = of(0.1, 0.1, 0.1, 1, 1 + 5e-9, 1, 0, 1e-7, 0)
  for (const scaleRewards of ['group', 'batch', 'none'] as const) {
    const result = await grpoAdvantages({ rewards, groupSize: 3, scaleRewards })
    t.deepEqual(result.advantages.subarray(0, 6), new Float64Array(6))
    t.true(result.advantages[7]! > 0)
    t.is(result.withoutSpread, 2)
  }
  const { advantages } = await rlooAdvantages({ rewards, groupSize: 3 })
  t.deepEqual(advantages.subarray(0, 3), new Float64Array(3))
})

test('RLOO’s advantages by hand', async (t) => {
  const { advantages } = await rlooAdvantages({ rewards: of(1, 2, 6, 0, 0, 3), groupSize: 3 })
  close(t, advantages, [1 - 4, 2 - 3.5, 6 - 1.5, -1.5, -1.5, 3], tight)
})

test('no group at all', async (t) => {
  t.deepEqual(await grpoAdvantages({ rewards: of(), groupSize: 4 }), { advantages: of(), withoutSpread: 0 })
  t.is((await rlooAdvantages({ rewards: of(), groupSize: 4 })).advantages.length, 0)
  const offsets = Int32Array.of(0)
  t.deepEqual(await gae({ rewards: of(), values: of(), offsets }), { advantages: of(), returns: of() })
})

test('bad input', async (t) => {
  const rewards = of(1, 2, 3, 4)
  await refusesBadInput(
    t,
    'gae',
    { rewards, values: of(1, 2, 3, 4), offsets: Int32Array.of(0, 1, 4) },
    [],
    [
      { offsets: Int32Array.of(1, 4) },
      { offsets: Int32Array.of(0, 3, 2, 4) },
      { offsets: Int32Array.of() },
      { gamma: -0.1 },
      { gamma: 1.1 },
      { gamma: Number.NaN },
      { lambda: 2 },
      { lambda: Number.NaN },
    ],
  )
  await refusesBadInput(
    t,
    'whiten',
    { values: rewards, mask: Uint8Array.of(1, 1, 1, 0) },
    ['mask'],
    [{ shiftMean: 1 }],
  )
  for (const call of ['grpoAdvantages', 'rlooAdvantages']) {
    const bad = [3, 0, 1, -2, 1.5, Number.NaN, undefined].map((groupSize) => ({ groupSize }))
    await refusesBadInput(t, call, { rewards, groupSize: 2 }, [], bad)
  }
  await t.throwsAsync(grpoAdvantages({ rewards, groupSize: 2, scaleRewards: 'batches' as 'batch' }), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /batches/,
  })
})
