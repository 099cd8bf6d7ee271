import test from 'ava'
import type { Experience } from '../../lib/train/policy/experience.js'
import { close } from '../helpers/close.js'
import { Classroom, type Lesson } from '../helpers/policy-learning.js'
import { EOS, idsOf } from '../helpers/tiny-policy.js'
import { weightsOf } from '../helpers/tiny-training.js'

/**
 * With these the advantage of a token is the sum of the rewards from it on, since the values are 0, and the first loss
 * is minus the mean of the advantages, since the ratio is 1.
 */
const plain = { lambda: 1, whitenAdvantages: false, epochs: 1, klCoef: 0 } as const
const tight = { absolute: 1e-9, relative: 1e-9 }
/** For what goes through a float32 forward. */
const loose = { absolute: 1e-6, relative: 1e-6 }

/** Four responses of 3, 1, 5 and 2 tokens; the third one does not end. */
const answers = ['ab>cd.', 'e>.', 'g>hhaib', 'cc>d.']
const lengths = [3, 1, 5, 2]
const scores = [1, -2, 0.5, 4]
const lesson: Lesson = { answers, scores }

const sum = (values: ArrayLike<number>) => Array.from(values).reduce((total, value) => total + value, 0)
const mean = (values: ArrayLike<number>) => sum(values) / values.length

/** Sum over all tokens of the rewards from each on, where all of a response's reward is at its end. */
const toCome = (ends: number[]) => sum(ends.map((score, i) => score * lengths[i]!))

/** What a token is away from the reference, d = log p - log p_ref. */
const distances = ({ oldLogProbs, referenceLogProbs }: Experience) =>
  Array.from(oldLogProbs, (value, t) => value - referenceLogProbs![t]!)

test('the score is earned at the last token: its means are over tokens, so a short response weighs no more', async (t) => {
  await using room = await Classroom.open()
  const { policy, reward, metrics } = await room.ppo(plain, lesson)
  t.is(policy.sums[0]!.count, sum(lengths))
  close(t, policy.loss, -toCome(scores) / sum(lengths), loose)
  // The mean over responses of means over tokens would be -mean(scores).
  t.true(Math.abs(policy.loss + mean(scores)) > 0.1)
  close(t, reward, mean(scores), tight)
  const squares = sum(scores.map((score, i) => score ** 2 * lengths[i]!))
  close(t, metrics.valueLoss, (0.5 * squares) / sum(lengths), tight)
})

test('missingEosPenalty: 1 with a reward model and none with functions, unless it is given', async (t) => {
  await using room = await Classroom.open()
  const lossWith = async (options: object, withModel: boolean) =>
    (await room.ppo({ ...plain, ...options }, { ...lesson, withModel })).policy.loss
  const penalised = (penalty: number) => -toCome(scores.with(2, scores[2]! - penalty)) / sum(lengths)
  close(t, await lossWith({}, false), penalised(0), loose)
  close(t, await lossWith({}, true), penalised(1), loose)
  close(t, await lossWith({ missingEosPenalty: null }, true), penalised(0), loose)
  close(t, await lossWith({ missingEosPenalty: 0.25 }, false), penalised(0.25), loose)
})

test('a response that no source judged is an error that names its row', async (t) => {
  await using room = await Classroom.open()
  await t.throwsAsync(room.ppo(plain, { answers, scores: [1, Number.NaN, 0, 1] }), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /^no reward judged the response to .+: PPO needs a score for each response/,
  })
})

test('scoreClip bounds the score before the penalty; scoreNormalize takes the history of all scores', async (t) => {
  await using room = await Classroom.open()
  const clipped = await room.ppo({ ...plain, scoreClip: 1.5, missingEosPenalty: 3 }, lesson)
  close(t, clipped.reward, mean([1, -1.5, 0.5 - 3, 1.5]), tight)
  const state = { scores: { count: 0, mean: 0, squares: 0 } }
  const past = [3, 3, 1, -7]
  await room.ppo({ ...plain, scoreNormalize: true }, { answers, scores: past, state })
  const all = [...past, ...scores]
  const deviation = Math.sqrt(sum(all.map((score) => (score - mean(all)) ** 2)) / (all.length - 1))
  const normal = scores.map((score) => (score - mean(all)) / deviation)
  const { policy } = await room.ppo({ ...plain, scoreNormalize: true }, { ...lesson, state })
  close(t, policy.loss, -toCome(normal) / sum(lengths), loose)
})

test('whitenRewards divides the rewards of tokens by their deviation and keeps their mean; the metric is of what was earned', async (t) => {
  await using room = await Classroom.open()
  const { policy, reward } = await room.ppo({ ...plain, whitenRewards: true }, lesson)
  const rewards = lengths.flatMap((length, i) => [...Array<number>(length - 1).fill(0), scores[i]!])
  const centre = mean(rewards)
  const deviation = Math.sqrt(
    sum(rewards.map((value) => (value - centre) ** 2)) / (rewards.length - 1) + 1e-8,
  )
  const white = rewards.map((value) => (value - centre) / deviation + centre)
  let [expected, at] = [0, 0]
  for (const length of lengths) {
    for (let k = 0; k < length; k++) expected += (k + 1) * white[at + k]!
    at += length
  }
  close(t, policy.loss, -expected / rewards.length, loose)
  close(t, reward, mean(scores), tight)
})

test('kl in the reward: each token pays k1, or k3, of its own', async (t) => {
  await using room = await Classroom.open()
  for (const [estimator, of] of [
    ['k1', (d: number) => d],
    ['k3', (d: number) => Math.exp(-d) - 1 + d],
  ] as const) {
    const options = { ...plain, klCoef: 0.3, kl: { estimator } }
    const { experience, policy, reward } = await room.ppo(options, lesson)
    const paid = distances(experience).map((d) => 0.3 * of(d))
    t.true(paid.some((value) => Math.abs(value) > 0.1))
    close(t, reward, mean(scores) - sum(paid) / 4, tight)
    let [expected, at] = [toCome(scores), 0]
    for (const length of lengths) {
      for (let k = 0; k < length; k++) expected -= (k + 1) * paid[at + k]!
      at += length
    }
    close(t, policy.loss, -expected / sum(lengths), loose)
    const perAnswer = lengths.map((length, i) => {
      const from = sum(lengths.slice(0, i))
      return sum(distances(experience).slice(from, from + length))
    })
    close(t, experience.kl, perAnswer, tight)
  }
})

test('kl in the loss: k2, k3 and the whole vocabulary in both directions, at the temperature of the rollout', async (t) => {
  await using room = await Classroom.open()
  const temperature = 0.7
  /** Of every token of the responses, the log-probabilities of the whole vocabulary. */
  const vocabulary = async (model: typeof room.model) => {
    const rows: number[][] = []
    for (const text of answers) {
      const [prompt, answer] = text.split('>').map(idsOf) as [number[], number[]]
      const ids = Int32Array.from([...prompt, ...answer])
      const logits = await model.logits({ inputIds: ids, offsets: Int32Array.of(0, ids.length) })
      for (let at = prompt.length - 1; at < ids.length - 1; at++) {
        const row = Array.from(logits.subarray(at * (EOS + 1), (at + 1) * (EOS + 1)), (x) => x / temperature)
        const total = Math.log(sum(row.map(Math.exp)))
        rows.push(row.map((x) => x - total))
      }
    }
    return rows
  }
  const [p, q] = [await vocabulary(room.model), await vocabulary(room.reference)]
  const divergence = (a: number[][], b: number[][]) =>
    sum(a.map((row, r) => sum(row.map((x, v) => Math.exp(x) * (x - b[r]![v]!)))))
  const { experience } = await room.ppo({ ...plain, temperature }, lesson)
  const d = distances(experience)
  const expected = {
    k2: sum(d.map((x) => 0.5 * x * x)),
    k3: sum(d.map((x) => Math.exp(-x) - 1 + x)),
    full: divergence(p, q),
    forward: divergence(q, p),
  }
  for (const [name, value] of Object.entries(expected)) {
    const kl =
      name === 'forward'
        ? { in: 'loss', estimator: 'full', direction: 'forward' }
        : { in: 'loss', estimator: name }
    const { policy, reward } = await room.ppo({ ...plain, temperature, klCoef: 0.2, kl }, lesson)
    close(t, policy.loss, (-toCome(scores) + 0.2 * value) / sum(lengths), loose, name)
    // It is not paid a second time.
    close(t, reward, mean(scores), tight)
  }
  // Without an estimator it is k2.
  const { policy } = await room.ppo({ ...plain, temperature, klCoef: 0.2, kl: { in: 'loss' } }, lesson)
  close(t, policy.loss, (-toCome(scores) + 0.2 * expected.k2) / sum(lengths), loose)
})

/** As if the policy that drew the responses had found each token `by` nats less likely. */
const drawnBy = (by: number) => (experience: Experience) => {
  experience.oldLogProbs = experience.oldLogProbs.map((value) => value - by)
}

test('clip and dualClip bound the ratio: a good response gains no more than 1 + clip, a bad one loses no more than dualClip', async (t) => {
  await using room = await Classroom.open()
  const ratio = Math.exp(2)
  const loss = async (options: object) =>
    (await room.ppo({ ...plain, ...options }, { ...lesson, known: drawnBy(2) })).policy
  const [good, bad] = [toCome([1, 0, 0.5, 4]), toCome([0, -2, 0, 0])]
  close(t, (await loss({})).loss, -(1.2 * good + ratio * bad) / sum(lengths), loose)
  close(t, (await loss({ clip: 0.5 })).loss, -(1.5 * good + ratio * bad) / sum(lengths), loose)
  const dual = await loss({ dualClip: 3 })
  close(t, dual.loss, -(1.2 * good + 3 * bad) / sum(lengths), loose)
  t.is(dual.sums[0]!.clipped, sum(lengths))
  close(t, dual.sums[0]!.approxKl! / sum(lengths), 0.5 * 2 ** 2, loose)
  close(t, dual.sums[0]!.ratio! / sum(lengths), ratio, loose)
})

test('the log-ratio is clamped at 20', async (t) => {
  await using room = await Classroom.open()
  const bad = { answers: ['ab>cd.'], scores: [-1], known: drawnBy(30) }
  close(t, (await room.ppo(plain, bad)).policy.loss, Math.exp(20), { relative: 1e-6 })
})

test('entropyCoef takes the mean entropy off the loss', async (t) => {
  await using room = await Classroom.open()
  const without = await room.ppo(plain, lesson)
  const { policy, experience } = await room.ppo({ ...plain, entropyCoef: 0.25 }, lesson)
  t.true(experience.entropy > 0.5)
  close(t, policy.loss, without.policy.loss - 0.25 * experience.entropy, loose)
})

test('epochs times miniBatches optimizer steps; targetKl ends the passes over a rollout', async (t) => {
  await using room = await Classroom.open()
  const steps = async (options: object, known?: Lesson['known']) =>
    (await room.ppo({ ...plain, ...options }, { ...lesson, ...(known && { known }) })).policy.steps
  t.is(await steps({ epochs: 3, miniBatches: 2 }), 6)
  t.is(await steps({ epochs: 1, miniBatches: 4 }), 4)
  t.is(await steps({ epochs: 3, miniBatches: 2, targetKl: 0.01 }), 6, 'nothing moves at learning rate 0')
  t.is(await steps({ epochs: 3, miniBatches: 2, targetKl: 0.01 }, drawnBy(0.5)), 1)
  t.is(await steps({ epochs: 3, miniBatches: 2, targetKl: 0.2 }, drawnBy(0.5)), 6)
})

test('more mini-batches are more steps, and not the same ones', async (t) => {
  const after: number[][] = []
  for (const miniBatches of [1, 2]) {
    await using room = await Classroom.open()
    await room.ppo({ ...plain, miniBatches }, { ...lesson, learningRate: 1e-3 })
    after.push(await room.weights())
  }
  t.true(after[0]!.some((value, i) => Math.abs(value - after[1]![i]!) > 5e-4))
})

test('one document a forward or all in one: the same update, normalized by the whole mini-batch', async (t) => {
  const made: { weights: number[]; loss: number; gradNorm: number; valueLoss: number }[] = []
  for (const batchTokens of [1, 4096]) {
    await using room = await Classroom.open()
    const options = { klCoef: 0.1, epochs: 2, miniBatches: 2, batchTokens }
    const { policy, metrics } = await room.ppo(options, { ...lesson, learningRate: 1e-3 })
    const { loss, gradNorm } = policy
    made.push({ weights: await room.weights(), loss, gradNorm, valueLoss: metrics.valueLoss })
  }
  const [alone, together] = made as [(typeof made)[0], (typeof made)[0]]
  close(t, alone.weights, together.weights, { absolute: 1e-5 }, 'weights')
  for (const name of ['loss', 'gradNorm', 'valueLoss'] as const)
    close(t, alone[name], together[name], { absolute: 1e-5, relative: 1e-5 }, name)
})

test('checkpointed activations: the same update', async (t) => {
  const after: number[][] = []
  for (const activationCheckpointing of [false, true]) {
    await using room = await Classroom.open()
    await room.ppo({ klCoef: 0.1, activationCheckpointing }, { ...lesson, learningRate: 1e-3 })
    after.push(await room.weights())
  }
  close(t, after[0]!, after[1]!, { absolute: 1e-6 })
})

test('a response without a token is refused', async (t) => {
  await using room = await Classroom.open()
  const empty = { answers: ['ab>cd.', 'e>'], scores: [1, 2] }
  await t.throwsAsync(room.ppo(plain, empty), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /response 1 has no tokens/,
  })
})

test('gradients are clipped to maxGradNorm', async (t) => {
  const moved: number[] = []
  for (const maxGradNorm of [0, 1e-12]) {
    await using room = await Classroom.open()
    const before = await room.weights()
    // AdamW takes no notice of the scale of gradients until they are far below its epsilon.
    const { policy, metrics } = await room.ppo({ ...plain, maxGradNorm }, { ...lesson, learningRate: 1e-3 })
    t.true(policy.gradNorm > 0.1 && metrics.valueGradNorm > 0.1, 'the norm is told as it was before')
    const after = await room.weights()
    moved.push(Math.max(...after.map((value, i) => Math.abs(value - before[i]!))))
  }
  t.true(moved[0]! > 5e-4, `${moved[0]}`)
  t.true(moved[1]! < 1e-6, `${moved[1]}`)
})

test('the end of a response is learned, though it is the pad token too', async (t) => {
  for (const [text, score] of [
    ['ab>.', 1],
    ['ab>.', -1],
    ['ab>cd.', 1],
  ] as const) {
    await using room = await Classroom.open()
    t.is(room.model.config.pad_token_id, EOS)
    const [promptIds, completionIds] = text.split('>').map((part) => Int32Array.from(idsOf(part)))
    const rows = [{ promptIds: promptIds!, completionIds: completionIds! }]
    const end = async () => (await room.model.logProbs(rows))[0]!.perToken.at(-1)!
    const before = await end()
    await room.ppo(plain, { answers: [text], scores: [score], learningRate: 1e-3 })
    t.true((await end()) * score > before * score, `${text} at ${score}`)
  }
})

test('in criticWarmup the critic alone is trained', async (t) => {
  await using room = await Classroom.open()
  const before = await room.weights()
  const options = { ...plain, criticWarmup: 1 }
  const first = await room.ppo(options, { ...lesson, learningRate: 1e-3 })
  t.deepEqual(await room.weights(), before)
  t.is(first.policy.steps, 0)
  t.true(first.metrics.valueLoss > 0)
  const values = await room.critic.scores([Int32Array.from(idsOf('abc'))])
  t.not(values[0], 0)
  const second = await room.ppo(options, { ...lesson, learningRate: 1e-3, iteration: 1 })
  t.is(second.policy.steps, 1)
  t.notDeepEqual(await room.weights(), before)
})

test('valueClip: a value may move by no more than this from what it was in the rollout', async (t) => {
  const losses: number[] = []
  for (const valueClip of [0.01, 100]) {
    await using room = await Classroom.open()
    const { metrics } = await room.ppo({ ...plain, epochs: 4, valueClip }, { ...lesson, learningRate: 3e-3 })
    t.is(metrics.valueClipFraction > 0, valueClip === 0.01)
    losses.push(metrics.valueLoss)
  }
  t.true(losses[0]! > losses[1]!, `${losses}`)
})

test('a loss that is not finite changes neither actor nor critic', async (t) => {
  await using room = await Classroom.open()
  const [before, critic] = [await room.weights(), await weightsOf(room.critic as never)]
  const { policy } = await room.ppo(plain, {
    ...lesson,
    learningRate: 1e-3,
    known: (experience) => {
      experience.oldLogProbs[4] = Number.NaN
    },
  })
  t.is(policy.failed, 'nonFiniteLoss')
  t.is(policy.steps, 0)
  t.deepEqual(await room.weights(), before)
  t.deepEqual(await weightsOf(room.critic as never), critic)
})
