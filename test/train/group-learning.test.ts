import test from 'ava'
import { close } from '../helpers/close.js'
import { Classroom, type Lesson } from '../helpers/policy-learning.js'

const loose = { absolute: 1e-6, relative: 1e-6 }
const sum = (values: ArrayLike<number>) => Array.from(values).reduce((total, value) => total + value, 0)
const mean = (values: ArrayLike<number>) => sum(values) / values.length
const deviation = (values: number[]) =>
  Math.sqrt(sum(values.map((value) => (value - mean(values)) ** 2)) / (values.length - 1))

/** Two groups of three; the second response of each does not end. */
const answers = ['ab>cd.', 'ab>gghhib', 'ab>.', 'e>hh.', 'e>abc', 'e>gi.']
const lengths = [3, 6, 1, 3, 3, 3]
const scores = [1, -2, 0.5, 4, 0, 0.5]
const lesson: Lesson = { answers, scores }
const groups = { groupSize: 3, maxNewTokens: 6 }

/** By group: what each response is above the mean of its group, by `divisor`. */
const above = (of: number[], divisor: (group: number[]) => number) =>
  [of.slice(0, 3), of.slice(3)].flatMap((group) =>
    group.map((score) => (score - mean(group)) / divisor(group)),
  )
const byGroup = (of: number[]) => above(of, (group) => deviation(group) + 1e-4)
/** Minus the mean over tokens, the ratio being 1. */
const tokenMean = (advantages: number[], of = lengths) =>
  -sum(advantages.map((value, i) => value * of[i]!)) / sum(of)

test('every reduction is the mean that it says', async (t) => {
  await using room = await Classroom.open()
  const a = byGroup(scores)
  const plain = above(scores, () => 1)
  const expected = {
    dapo: tokenMean(a),
    bnpo: tokenMean(a),
    grpo: -mean(a),
    drGrpo: -sum(plain.map((value, i) => value * lengths[i]!)) / (6 * 6),
  }
  for (const [reduction, loss] of Object.entries(expected)) {
    const { policy } = await room.grpo({ ...groups, reduction }, lesson)
    close(t, policy.loss, loss, loose, reduction)
    t.is(policy.failed, null)
  }
})

test('scaleRewards divides by the deviation of the group, of all, or by nothing', async (t) => {
  await using room = await Classroom.open()
  const expected = {
    group: byGroup(scores),
    batch: above(scores, () => deviation(scores) + 1e-4),
    none: above(scores, () => 1),
  }
  for (const [scaleRewards, advantages] of Object.entries(expected)) {
    const { policy } = await room.grpo({ ...groups, scaleRewards }, lesson)
    close(t, policy.loss, tokenMean(advantages), loose, scaleRewards)
  }
})

test('a group whose scores agree: its advantages are exactly 0, its tokens count, and it is told', async (t) => {
  await using room = await Classroom.open()
  const half = [1, -2, 0.5, 0.7, 0.7, 0.7]
  const { policy, metrics } = await room.grpo(groups, { answers, scores: half })
  close(t, policy.loss, tokenMean([...byGroup(half).slice(0, 3), 0, 0, 0]), loose)
  t.is(policy.sums[0]!.count, sum(lengths))
  t.is(metrics.withoutSpread, 0.5)
  for (const recipe of ['grpo', 'rloo'] as const) {
    await using other = await Classroom.open()
    const before = await other.weights()
    const same = { answers, scores: [3, 3, 3, 0.1, 0.1, 0.1], learningRate: 1e-2 }
    const made = await other[recipe]({ ...groups, klCoef: 0 }, same)
    t.is(made.metrics.withoutSpread, 1)
    close(t, made.metrics.scoreSpread, 0, { absolute: 1e-12 })
    t.is(made.policy.steps, 1)
    t.deepEqual(await other.weights(), before, 'nothing moves by a bit')
  }
})

test('responses without a judgment take no part: the rest of their group is compared alone', async (t) => {
  await using room = await Classroom.open()
  const left = [1, Number.NaN, 0.5, 4, 0, Number.NaN]
  const pairs = [
    [1, 0.5],
    [4, 0],
  ]
  const [a, c, d, e] = pairs.flatMap((group) =>
    group.map((x) => (x - mean(group)) / (deviation(group) + 1e-4)),
  )
  const kept = [3, 0, 1, 3, 3, 0]
  const { policy, reward, metrics } = await room.grpo(groups, { answers, scores: left })
  close(t, policy.loss, tokenMean([a!, 0, c!, d!, e!, 0], kept), loose)
  t.is(policy.sums[0]!.count, sum(kept))
  close(t, reward, 5.5 / 4, loose)
  close(t, metrics.scoreSpread, (0.25 + 2) / 2, loose)
  await using other = await Classroom.open()
  // RLOO: each minus the other one of its group; the loss is a mean over the four responses.
  const rloo = await other.rloo({ ...groups, klCoef: 0 }, { answers, scores: left })
  close(t, rloo.policy.loss, -(0.5 - 0.5 + 4 - 4) / 4, loose)
  t.is(rloo.policy.sums[0]!.count, 4)
})

test('overlongTokens: the last tokens before the limit cost up to 1, in a line', async (t) => {
  await using room = await Classroom.open()
  const { policy, reward } = await room.grpo({ ...groups, overlongTokens: 4 }, lesson)
  // 6 - 4 tokens are free; 3 of 6 cost a quarter, 6 of 6 cost 1.
  const cut = [0.75, -3, 0.5, 3.75, -0.25, 0.25]
  close(t, reward, mean(cut), loose)
  close(t, policy.loss, tokenMean(byGroup(cut)), loose)
})

test('maskTruncated: responses that did not end are compared with, but teach nothing', async (t) => {
  await using room = await Classroom.open()
  const { policy } = await room.grpo({ ...groups, maskTruncated: true }, lesson)
  const counted = lengths.map((length, i) => (i % 3 === 1 ? 0 : length))
  close(t, policy.loss, tokenMean(byGroup(scores), counted), loose)
  t.is(policy.sums[0]!.count, sum(counted))
  const before = await room.weights()
  const none = await room.grpo(
    { ...groups, maskTruncated: true },
    { answers: answers.map((text) => text.replace('.', 'a')), scores, learningRate: 1e-2 },
  )
  t.is(none.policy.steps, 0)
  t.deepEqual(await room.weights(), before)
})

test('clipLow and clipHigh; klCoef times the ratio times k3', async (t) => {
  await using room = await Classroom.open()
  const ratio = Math.exp(1)
  const known: Lesson['known'] = (experience) => {
    experience.oldLogProbs = experience.oldLogProbs.map((value) => value - 1)
  }
  const a = byGroup(scores)
  const bounded = (high: number) => a.map((value) => (value > 0 ? high : ratio) * value)
  const clipped = await room.grpo({ ...groups, clipHigh: 0.5 }, { ...lesson, known })
  close(t, clipped.policy.loss, tokenMean(bounded(1.5)), loose)
  const rarer: Lesson['known'] = (experience) => {
    experience.oldLogProbs = experience.oldLogProbs.map((value) => value + 1)
  }
  const low = a.map((value) => (value > 0 ? 1 / ratio : 0.7) * value)
  const fallen = await room.grpo({ ...groups, clipLow: 0.3 }, { ...lesson, known: rarer })
  close(t, fallen.policy.loss, tokenMean(low), loose)
  const { experience, policy } = await room.grpo({ ...groups, klCoef: 0.3 }, { ...lesson, known })
  const k3 = Array.from(experience.oldLogProbs, (value, i) => {
    const d = value + 1 - experience.referenceLogProbs![i]!
    return ratio * (Math.exp(-d) - 1 + d)
  })
  close(t, policy.loss, tokenMean(bounded(1.2)) + (0.3 * sum(k3)) / sum(lengths), loose)
})

test('RLOO: the score less its KL against the mean of the others; a whole response has one ratio', async (t) => {
  await using room = await Classroom.open()
  const { experience, policy, reward } = await room.rloo({ ...groups, klCoef: 0.2 }, lesson)
  t.true(experience.kl.some((value) => Math.abs(value) > 0.1))
  const rewards = scores.map((score, i) => score - 0.2 * experience.kl[i]!)
  close(t, reward, mean(rewards), loose)
  const advantages = rewards.map((value, i) => {
    const others = rewards.slice(i < 3 ? 0 : 3, i < 3 ? 3 : 6)
    return value - (sum(others) - value) / 2
  })
  close(t, policy.loss, -mean(advantages), loose)
  // A short response weighs as much as a long one: the loss is a mean over responses.
  t.is(policy.sums[0]!.count, 6)
  const drawn = await room.rloo(
    { ...groups, klCoef: 0, clip: 0.3 },
    {
      ...lesson,
      known: (known) => {
        known.oldLogProbs = known.oldLogProbs.map((value) => value - 0.1)
      },
    },
  )
  const loo = scores.map((value, i) => {
    const others = scores.slice(i < 3 ? 0 : 3, i < 3 ? 3 : 6)
    return value - (sum(others) - value) / 2
  })
  const expected = loo.map((value, i) => {
    const ratio = Math.exp(0.1 * lengths[i]!)
    return -Math.min(value * ratio, value * Math.min(ratio, 1.3))
  })
  close(t, drawn.policy.loss, mean(expected), loose)
})

test('RLOO: normalizeAdvantages whitens over all responses', async (t) => {
  await using room = await Classroom.open()
  const { policy } = await room.rloo(
    { ...groups, klCoef: 0, normalizeAdvantages: true, miniBatches: 6 },
    lesson,
  )
  t.is(policy.steps, 6)
  // One response in each step: the mean of their losses is minus the mean advantage, 0 when whitened.
  close(t, policy.loss, 0, loose)
  const plain = await room.rloo({ ...groups, klCoef: 0, normalizeAdvantages: false }, lesson)
  close(t, plain.policy.loss, 0, loose)
  const known: Lesson['known'] = (experience) => {
    experience.oldLogProbs = experience.oldLogProbs.map((value, t) => value - (t < 3 ? 1 : 0))
  }
  // The first response's ratio tells its advantage.
  const told = async (normalizeAdvantages: boolean) =>
    (await room.rloo({ ...groups, klCoef: 0, clip: 100, normalizeAdvantages }, { ...lesson, known })).policy
      .loss
  const loo = scores.map((value, i) => {
    const others = scores.slice(i < 3 ? 0 : 3, i < 3 ? 3 : 6)
    return value - (sum(others) - value) / 2
  })
  const shift = (advantages: number[]) => -(advantages[0]! * (Math.exp(3) - 1) + sum(advantages)) / 6
  close(t, await told(false), shift(loo), loose)
  const white = loo.map((value) => (value - mean(loo)) / Math.sqrt(deviation(loo) ** 2 + 1e-8))
  close(t, await told(true), shift(white), loose)
})

test('one document a forward or all in one: the same update in every reduction', async (t) => {
  for (const reduction of ['dapo', 'grpo', 'drGrpo'] as const) {
    const after: number[][] = []
    for (const batchTokens of [1, 4096]) {
      await using room = await Classroom.open()
      await room.grpo(
        { ...groups, klCoef: 0.1, reduction, batchTokens, epochs: 2, miniBatches: 2 },
        { ...lesson, learningRate: 1e-3 },
      )
      after.push(await room.weights())
    }
    close(t, after[0]!, after[1]!, { absolute: 1e-5 }, reduction)
  }
})
