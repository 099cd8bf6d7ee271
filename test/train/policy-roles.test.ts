import test from 'ava'
import { type CausalLM, grpo, ppo, RewardModel } from '../../lib/index.js'
import type { Model } from '../../lib/models/model.js'
import { makeCritic } from '../../lib/train/roles/critic.js'
import { eventsOf, only } from '../helpers/run.js'
import { idsOf, tinyPolicy, type Wish, wished, wishes } from '../helpers/tiny-policy.js'

const shared = {
  data: wishes,
  batchSize: 6,
  maxNewTokens: 5,
  iterations: 2,
  learningRate: 3e-3,
  epochs: 2,
} as const

const texts = ['abc', 'e', 'ghhaib.'].map((text) => Int32Array.from(idsOf(text)))

/** All weights, the head and adapters in use included. */
async function bitsOf(model: Model): Promise<Map<string, Float32Array>> {
  const bits = new Map<string, Float32Array>()
  for (const { name } of await model.parameters()) bits.set(name, (await model.getParameter(name)).values)
  return bits
}

const infoOf = (model: CausalLM) => model.role.core.info()

/** Bytes that the package holds, and handles, after each iteration; at the end of the run what is left of it. */
async function watched(model: CausalLM, start: () => AsyncIterable<{ type: string; kl?: number }>) {
  const before = await infoOf(model)
  const kl: number[] = []
  let bytes = 0
  for await (const event of start()) {
    if (event.type !== 'step') continue
    kl.push(event.kl!)
    bytes = Math.max(bytes, (await infoOf(model)).allocatedBytes - before.allocatedBytes)
  }
  const after = await infoOf(model)
  return {
    kl,
    bytes,
    handles: after.liveHandles - before.liveHandles,
    left: after.allocatedBytes - before.allocatedBytes,
  }
}

// Counts what the process holds: one after another.
test.serial(
  'models of their own: KL begins at 0; reward and a given reference do not move by a bit',
  async (t) => {
    await using model = await tinyPolicy(1)
    await using other = await tinyPolicy(2)
    await using reward = await RewardModel.fromCausalLM(other, { seed: 3 })
    const before = await bitsOf(reward)
    const start = await bitsOf(model)
    const size = 4 * [...start.values()].reduce((sum, { length }) => sum + length, 0)
    const whole = await watched(model, () => ppo({ ...shared, model, reward }))
    t.is(whole.kl[0], 0)
    t.true(whole.kl[1]! !== 0 && Number.isFinite(whole.kl[1]))
    t.deepEqual(await bitsOf(reward), before)
    t.notDeepEqual(await bitsOf(model), start)
    // Reference, critic, and for both that are trained gradients and two moments.
    t.true(whole.bytes > 5 * size, `${whole.bytes / size} models`)
    t.is(whole.handles, 0)
    await using reference = await tinyPolicy(5)
    const fixed = await bitsOf(reference)
    const given = await eventsOf(ppo<Wish>({ ...shared, model, reward: wished, reference }))
    t.true(Math.abs(only(given, 'step')[0]!.kl!) > 1e-2)
    t.deepEqual(await bitsOf(reference), fixed)
  },
)

test.serial(
  'one base: KL begins at 0, the base is there once, and neither it nor the reward moves by a bit',
  async (t) => {
    await using model = await tinyPolicy(1)
    await using bare = await model.view()
    await using reward = await RewardModel.fromCausalLM(model, { seed: 3 })
    const [base, judge] = [await bitsOf(bare), await bitsOf(reward)]
    const scores = await reward.scores(texts)
    const size = 4 * [...base.values()].reduce((sum, { length }) => sum + length, 0)
    const run = await watched(model, () => ppo({ ...shared, model, reward, lora: { rank: 1 } }))
    t.is(run.kl[0], 0)
    t.true(run.kl[1]! !== 0 && Number.isFinite(run.kl[1]))
    t.deepEqual(await bitsOf(bare), base)
    t.deepEqual(await bitsOf(reward), judge)
    t.deepEqual(await reward.scores(texts), scores)
    const adapter = [...(await bitsOf(model))].filter(([name]) => name.includes('lora_B'))
    t.true(adapter.length > 0 && adapter.every(([, values]) => values.some((value) => value !== 0)))
    // Two adapters of rank 1, their gradients and moments: not one base more.
    t.true(run.bytes < 2 * size, `${run.bytes / size} models`)
    // The policy keeps its adapter; those of critic and reference are gone.
    t.deepEqual(model.adapters, ['default'])
    t.is(run.handles, 1)
  },
)

test.serial(
  'an active adapter is trained further: the reference is a frozen copy of it, again and again',
  async (t) => {
    await using model = await tinyPolicy(1)
    await grpo<Wish>({ ...shared, model, reward: wished, groupSize: 2, lora: { rank: 2 } }).finish()
    for (const recipe of ['ppo', 'grpo', 'ppo'] as const) {
      const start = () =>
        recipe === 'ppo'
          ? ppo<Wish>({ ...shared, model, reward: wished })
          : grpo<Wish>({ ...shared, model, reward: wished, groupSize: 2, klCoef: 0.1 })
      const run = await watched(model, start)
      t.is(run.kl[0], 0, recipe)
      t.not(run.kl[1], 0)
      t.deepEqual(model.adapters, ['default'])
      t.is(run.handles, 0)
    }
  },
)

test.serial('a run that fails leaves nothing behind', async (t) => {
  await using model = await tinyPolicy(1)
  const before = (await infoOf(model)).liveHandles
  const sour = () => {
    throw new Error('no milk')
  }
  await t.throwsAsync(ppo({ ...shared, model, reward: sour }).finish(), { message: /no milk/ })
  await using reference = await tinyPolicy(3)
  await t.throwsAsync(
    ppo({
      ...shared,
      model,
      reward: sour,
      reference: { ...reference, vocabSize: 5, backward() {} } as never,
    }).finish(),
    {
      message: /vocabulary of 5 tokens/,
    },
  )
  await using bare = await model.view()
  await t.throwsAsync(ppo({ ...shared, model, reward: sour, lora: { rank: 1 } }).finish(), {
    message: /no milk/,
  })
  t.deepEqual(model.adapters, ['default'])
  await bare.dispose()
  await reference.dispose()
  t.is((await infoOf(model)).liveHandles, before + 1, 'the adapter of the policy')
})

test('the critic starts as the reward model, else as the trunk with a head of zeros', async (t) => {
  await using model = await tinyPolicy(1)
  await using other = await tinyPolicy(2)
  await using reward = await RewardModel.fromCausalLM(other, { seed: 3 })
  const scores = await reward.scores(texts)
  t.true(scores.every((score) => Math.abs(score) > 1e-3))
  const sources = [{ reward: () => [] }, { reward }]
  for (const lora of [undefined, { rank: 2 }]) {
    const options = { model, seed: 0, ...(lora && { lora }) }
    await using same = await makeCritic(options, sources)
    t.deepEqual(await same.scores(texts), scores)
    await using zero = await makeCritic(options, [{ reward: () => [] }])
    t.deepEqual([...(await zero.scores(texts))], [0, 0, 0])
    if (lora === undefined) continue
    t.is(same.adapter, 'critic')
    // The trunk is the base, seen through an adapter that changes nothing yet.
    await zero.setParameter('score.weight', (await reward.getParameter('score.weight')).values)
    await using trunk = await RewardModel.fromCausalLM(model, { seed: 3 })
    t.deepEqual(await zero.scores(texts), await trunk.scores(texts))
  }
})

test('the critic of an adapter that is trained further starts from that adapter', async (t) => {
  await using model = await tinyPolicy(1)
  await model.addAdapter('style', { rank: 2, seed: 1 })
  const [b] = (await model.parameters()).filter(({ name }) => name.includes('lora_B'))
  const { values } = await model.getParameter(b!.name)
  await model.setParameter(b!.name, values.fill(0.3))
  await using critic = await makeCritic({ model, seed: 0 }, [])
  t.deepEqual([...(await critic.scores(texts))], [0, 0, 0])
  await using styled = await RewardModel.fromCausalLM(model, { seed: 3, adapter: 'style' })
  await critic.setParameter('score.weight', (await styled.getParameter('score.weight')).values)
  t.deepEqual(await critic.scores(texts), await styled.scores(texts))
})

test('a critic may be given', async (t) => {
  await using model = await tinyPolicy(1)
  await using other = await tinyPolicy(2)
  await using given = await RewardModel.fromCausalLM(other, { seed: 3 })
  await using critic = await makeCritic({ model, seed: 0, critic: given }, [{ reward: () => [] }])
  t.deepEqual(await critic.scores(texts), await given.scores(texts))
  const before = await bitsOf(given)
  const run = ppo<Wish>({ ...shared, model, reward: wished, critic: given })
  t.true(only(await eventsOf(run), 'step').every(({ valueLoss }) => valueLoss > 0))
  t.deepEqual(await bitsOf(given), before)
})

test('an adapter may be called as those that a run makes for itself', async (t) => {
  for (const name of ['critic', 'reference']) {
    await using model = await tinyPolicy(1)
    await model.addAdapter(name, { rank: 1 })
    const step = { ...shared, iterations: 1, maxNewTokens: 2, batchSize: 2, model, reward: wished }
    t.like(await ppo<Wish>(step).finish(), { reason: 'completed' })
    t.deepEqual(model.adapters, [name])
  }
})

test('a model that is trained cannot be the reward model or reference, and a second adapter would hide the first', async (t) => {
  await using model = await tinyPolicy(1)
  await using reward = await RewardModel.fromCausalLM(model, { seed: 3 })
  await using reference = await model.view()
  const along = { code: 'ERR_INVALID_ARGUMENT', message: /shares the weights that are trained/ }
  const step = { ...shared, iterations: 1, maxNewTokens: 2, batchSize: 2 }
  await t.throwsAsync(ppo({ ...step, model, reward }).finish(), along)
  await t.throwsAsync(grpo({ ...step, model, reward, groupSize: 2 }).finish(), along)
  await t.throwsAsync(ppo<Wish>({ ...step, model, reward: wished, reference }).finish(), along)
  // With low-rank updates alone in training the same ones may.
  await ppo({ ...step, model, reward, reference, lora: { rank: 1 } }).finish()
  await t.throwsAsync(ppo<Wish>({ ...step, model, reward: wished, lora: { rank: 1 } }).finish(), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /the model has default in use: leave out lora/,
  })
})
