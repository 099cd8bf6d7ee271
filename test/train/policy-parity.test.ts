import test, { type ExecutionContext } from 'ava'
import { AdamW, CausalLM, RewardModel } from '../../lib/index.js'
import type { Model } from '../../lib/models/model.js'
import { permutation, STREAM } from '../../lib/random.js'
import { groupIteration, grpoMethod, rlooMethod } from '../../lib/train/grpo.js'
import { experienceOf } from '../../lib/train/policy/experience.js'
import { ppoIteration } from '../../lib/train/ppo.js'
import { close, distance, norm } from '../helpers/close.js'
import { fixture } from '../helpers/fixtures.js'
import { movedBy, policyFixture, responses } from '../helpers/policy-fixture.js'

const ITERATION = 2
const SEED = 7

const common = { batchTokens: 4096, activationCheckpointing: false, maxNewTokens: 8 }

test('the orders of the fixture are those of a run', (t) => {
  for (const [epoch, order] of policyFixture.orders.entries())
    t.deepEqual([...permutation(order.length, SEED, STREAM.update + ITERATION * 1000 + epoch)], order)
})

async function start() {
  const model = await CausalLM.load(fixture('models', 'qwen3'))
  const reference = await CausalLM.load(fixture('models', 'llama'))
  return { model, reference }
}

const optimizerOf = (model: Model, weightDecay: number) =>
  new AdamW(model, { learningRate: 0, weightDecay, decay: 'matrices' })

async function valuesOf(model: Model, names: Iterable<string>) {
  const values = new Map<string, Float32Array>()
  for (const name of names) values.set(name, (await model.getParameter(name)).values)
  return values
}

/** Moves a model by `run` and compares with the fixture, all parameters together. */
async function movesAs(
  t: ExecutionContext,
  moved: [name: string, model: Model][],
  float32: Record<string, number>,
  run: () => Promise<void>,
): Promise<void> {
  const before = await Promise.all(moved.map(([name, model]) => valuesOf(model, movedBy(name).keys())))
  await run()
  for (const [i, [name, model]] of moved.entries()) {
    let [off, all] = [0, 0]
    for (const [parameter, { values: truth }] of movedBy(name)) {
      const start = before[i]!.get(parameter)!
      const after = (await model.getParameter(parameter)).values
      off +=
        distance(
          after.map((value, k) => value - start[k]!),
          truth,
        ) ** 2
      all += norm(truth) ** 2
    }
    const relative = Math.sqrt(off / all)
    t.log(
      `${name}: off by ${relative.toExponential(1)}; torch's float32 by ${float32[name]!.toExponential(1)}`,
    )
    t.true(relative <= 1e-3, `${name}: the update is off by ${relative}`)
  }
}

function matches(
  t: ExecutionContext,
  actual: Record<string, unknown>,
  expected: Record<string, number>,
): void {
  for (const [name, value] of Object.entries(expected))
    close(t, actual[name] as number, value, { absolute: 1e-5, relative: 2e-4 }, name)
}

function drawn() {
  const total = Float64Array.from(policyFixture.scores)
  return { responses, scores: { total, bySource: { reward: total } } }
}

function progress({ learningRate, klCoef }: Record<string, number>) {
  const scores = { count: 0, mean: 0, squares: 0 }
  return { iteration: ITERATION, learningRate: learningRate!, klCoef: klCoef!, scores }
}

test('PPO: three passes of two mini-batches move actor and critic as torch and transformers do', async (t) => {
  const { options, metrics, float32 } = policyFixture.ppo
  const { temperature, learningRate } = options as Record<string, number>
  const { model, reference } = await start()
  const trunk = await CausalLM.load(fixture('models', 'qwen3'))
  const critic = await RewardModel.fromCausalLM(trunk, { seed: null })
  await critic.setParameter('score.weight', Float32Array.from(policyFixture.head))
  const optimizers = {
    actor: optimizerOf(model, options.weightDecay!),
    critic: optimizerOf(critic, options.weightDecay!),
  }
  const given = { ...common, ...options, temperature: temperature!, batchTokens: 20 }
  const { learn } = ppoIteration(
    {
      model,
      critic,
      reference,
      sources: [],
      actorOptimizer: optimizers.actor,
      criticOptimizer: optimizers.critic,
      criticRatio: options.criticLearningRate! / learningRate!,
    },
    {
      ...given,
      seed: SEED,
      whitenRewards: false,
      whitenAdvantages: true,
      scoreNormalize: false,
    } as unknown as Parameters<typeof ppoIteration>[1],
  )
  await movesAs(
    t,
    [
      ['ppo-actor', model],
      ['ppo-critic', critic],
    ],
    float32,
    async () => {
      const experience = await experienceOf({ model, reference }, drawn(), given)
      const made = await learn(experience, progress(options as Record<string, number>))
      t.is(made.policy.steps, 6)
      const { sums } = made.policy
      const per = (value: number) => value / sums[0]!.count
      matches(
        t,
        {
          ...made.metrics,
          reward: made.reward,
          loss: made.policy.loss,
          gradNorm: made.policy.gradNorm,
          policyLoss: per(sums[0]!.lossSum),
          clipFraction: per(sums[0]!.clipped!),
          approxKl: per(sums[0]!.approxKl!),
          ratioMean: per(sums[0]!.ratio!),
          kl: experience.kl.reduce((sum, value) => sum + value, 0) / experience.kl.length,
        },
        metrics,
      )
    },
  )
  for (const item of [...Object.values(optimizers), critic, trunk, model, reference]) await item.dispose()
})

for (const recipe of ['grpo', 'rloo'] as const) {
  test(`${recipe.toUpperCase()}: two passes of two mini-batches move the policy as torch and transformers do`, async (t) => {
    const { options, metrics, float32 } = policyFixture[recipe]
    const { model, reference } = await start()
    const optimizer = optimizerOf(model, options.weightDecay!)
    const { groupSize } = policyFixture
    const given = { ...common, ...options, groupSize, seed: SEED } as unknown as Parameters<
      typeof groupIteration
    >[2] &
      Parameters<typeof rlooMethod>[0]
    const method =
      recipe === 'grpo'
        ? grpoMethod({
            clipLow: options.clipLow!,
            clipHigh: options.clipHigh!,
            klCoef: options.klCoef!,
            maxNewTokens: options.maxNewTokens!,
            reduction: 'dapo',
            maskTruncated: false,
          })
        : rlooMethod({ ...given, normalizeAdvantages: false })
    const { learn } = groupIteration({ model, reference, sources: [], optimizer }, method, given)
    await movesAs(t, [[recipe, model]], float32, async () => {
      const experience = await experienceOf({ model, reference }, drawn(), given)
      const { policy, reward } = await learn(experience, progress(options as Record<string, number>))
      t.is(policy.steps, 4)
      matches(t, { reward, loss: policy.loss, gradNorm: policy.gradNorm }, metrics)
    })
    for (const item of [optimizer, model, reference]) await item.dispose()
  })
}
