import test from 'ava'
import { CausalLM, type LossTerm, RewardModel } from '../../lib/index.js'
import { close } from '../helpers/close.js'
import { fixture } from '../helpers/fixtures.js'

// Two documents of four tokens; the first token of each is no label, and one label of the first is masked.
const inputIds = Int32Array.of(5, 6, 7, 8, 9, 10, 11, 12)
const labels = Int32Array.of(5, 6, -100, 8, 9, 10, 11, 12)
const weights = Float32Array.of(1, 0.5, 1, 1, 1, 2, 1, 0.25)
const batch = { inputIds, offsets: Int32Array.of(0, 4, 8), labels, weights }
const perToken = (from: number) => Float64Array.from(labels, (_, t) => from + t / 16)

const policy = { kind: 'ppoPolicy', oldLogProbs: perToken(-4), advantages: perToken(-0.25) } as const
const pairs = Int32Array.of(0, 1, 1, 0)
const referenceSums = Float64Array.of(-9, -11)

/** Terms over log-probabilities by the count that each has in the batch. */
function termsOf(reference: CausalLM): [count: number, term: LossTerm][] {
  return [
    [4.75, { kind: 'crossEntropy' }],
    [5.75, { kind: 'crossEntropy', ignoreIndex: -1 }],
    [5, { kind: 'weightedLogProb', weights: perToken(1) }],
    [4.75, policy],
    [2.5, { ...policy, sequence: true }],
    [4.25, { ...policy, importance: Float64Array.from(labels, (_, t) => (t === 1 ? 0 : 1)) }],
    [4.75, { kind: 'kl', estimator: 'k3', referenceLogProbs: perToken(-4) }],
    [4.75, { kind: 'fullKl', direction: 'forward', reference }],
    [2, { kind: 'dpo', loss: 'sigmoid', beta: 0.1, pairs, referenceSums }],
    [1.25, { kind: 'dpo', loss: 'ipo', beta: 0.1, pairs, referenceSums, weights: Float64Array.of(1, 0.25) }],
    [2, { kind: 'kto', beta: 0.1, kl: 0.5, desirable: Uint8Array.of(1, 0), referenceSums }],
  ]
}

const open = () => CausalLM.load(fixture('models', 'llama'))

async function gradientOf(model: CausalLM | RewardModel): Promise<Float32Array> {
  const { values } = await model.getGradient('model.layers.0.mlp.down_proj.weight')
  await model.zeroGrad()
  return values
}

test('without a normalizer a backward divides by the count of its term, whatever the term', async (t) => {
  await using model = await open()
  await using reference = await open()
  const given = termsOf(reference)
  for (const [count, term] of given) {
    const what = `${term.kind} of ${count}`
    // No label of the batch is -1, and -100 is not in the vocabulary.
    const read = 'ignoreIndex' in term ? { ...batch, labels: labels.map((id) => Math.max(0, id)) } : batch
    const sums = await model.backward(read, term)
    t.is(sums.count, count, what)
    t.is(sums.loss, sums.lossSum / count, what)
    const gradient = await gradientOf(model)
    t.deepEqual(await model.backward(read, term, { normalizer: count }), sums, what)
    t.deepEqual(await gradientOf(model), gradient, what)
    t.deepEqual(await model.evaluate(read, term), sums, what)
    const twice = await model.evaluate(read, term, { normalizer: 2 * count })
    t.is(twice.loss, sums.loss / 2, what)
    t.is(twice.lossSum, sums.lossSum, what)
  }
  const kinds = new Set(given.map(([, { kind }]) => kind))
  t.deepEqual([...kinds].sort(), [
    'crossEntropy',
    'dpo',
    'fullKl',
    'kl',
    'kto',
    'ppoPolicy',
    'weightedLogProb',
  ])
})

test('a reward model divides by the count of its term too, and its loss is the mean', async (t) => {
  await using base = await open()
  await using model = await RewardModel.fromCausalLM(base, { seed: 1 })
  const value = { kind: 'ppoValue', oldValues: perToken(0), returns: perToken(1), clip: null } as const
  const ranking = { kind: 'pairwiseReward', pairs } as const
  for (const [count, term] of [
    [4.75, value],
    [2, ranking],
    [1.5, { ...ranking, weights: Float64Array.of(1, 0.5) }],
  ] as [number, LossTerm][]) {
    const sums = await model.backward(batch, term)
    t.is(sums.count, count)
    t.is(sums.loss, sums.lossSum / count)
    const gradient = await gradientOf(model)
    await model.backward(batch, term, { normalizer: count })
    t.deepEqual(await gradientOf(model), gradient)
  }
  const { maxReward, minReward, documents } = await model.evaluate(batch, ranking)
  t.is(documents, 2)
  t.true(maxReward >= minReward)
})

test('several terms over one forward: a list of sums, and the gradients by their coefficients together', async (t) => {
  await using model = await open()
  await using reference = await open()
  await reference.setParameter('model.norm.weight', new Float32Array(reference.role.base.spec.hiddenSize))
  const penalty = { kind: 'fullKl', direction: 'reverse', reference } as const
  const [alone, kl] = [await model.backward(batch, policy), await model.evaluate(batch, penalty)]
  const first = await gradientOf(model)
  await model.backward(batch, penalty)
  const second = await gradientOf(model)
  const sums = await model.backward(batch, [policy, { ...penalty, coefficient: 0.5 }])
  t.deepEqual(sums, [alone, kl])
  t.true(sums[1].loss > 0)
  t.is(typeof sums[0].approxKl, 'number')
  const together = first.map((value, i) => value + 0.5 * second[i]!)
  close(t, await gradientOf(model), together, { absolute: 1e-6 }, 'gradient')
  // @ts-expect-error fullKl has no further sums
  t.is(sums[1].approxKl, undefined)
  t.deepEqual(await model.evaluate(batch, [policy, penalty]), sums)
  t.deepEqual(await model.evaluate(batch, [policy]), [alone])
})

test('terms that count different things need a normalizer; evaluated, each has its own', async (t) => {
  await using model = await open()
  const terms = [
    { kind: 'kto', beta: 0.1, kl: 0, desirable: Uint8Array.of(1, 1), referenceSums },
    policy,
  ] as const
  await t.throwsAsync(model.backward(batch, terms), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /count different things \(kto 2, ppoPolicy 4\.75\).*pass a normalizer/,
  })
  const sums = await model.backward(batch, terms, { normalizer: 2 })
  t.is(sums[1].loss, sums[1].lossSum / 2)
  const [, evaluated] = await model.evaluate(batch, terms)
  t.is(evaluated.loss, evaluated.lossSum / 4.75)
})

test('terms that cannot share a forward, and a reference without logits, are refused by name', async (t) => {
  await using model = await open()
  await using scored = await RewardModel.fromCausalLM(model)
  await t.throwsAsync(
    model.evaluate(batch, [{ kind: 'crossEntropy' }, { kind: 'crossEntropy', ignoreIndex: 0 }]),
    {
      code: 'ERR_INVALID_ARGUMENT',
      message: /ignoreIndex 0 cannot be combined with -100/,
    },
  )
  const term = { kind: 'fullKl', direction: 'forward', reference: scored } as const
  // @ts-expect-error a reward model gives no logits
  await t.throwsAsync(model.backward(batch, term), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /fullKl: the reference must be a CausalLM/,
  })
  await t.throwsAsync(model.backward(batch, []), { message: /no loss term/ })
})

test('a batch without labels has loss 0 and no gradient', async (t) => {
  await using model = await open()
  const none = { ...batch, labels: labels.map(() => -100) }
  const sums = await model.backward(none, { kind: 'crossEntropy' })
  t.deepEqual(sums, { loss: 0, lossSum: 0, count: 0, correct: 0, entropySum: 0, labels: 0 })
  t.true((await gradientOf(model)).every((value) => value === 0))
})

test('a misspelt field of a term does not compile', async (t) => {
  await using model = await open()
  // @ts-expect-error ignoreIndex
  await t.notThrowsAsync(model.evaluate(batch, { kind: 'crossEntropy', ignoreindex: -100 }))
  // @ts-expect-error no such kind
  await t.throwsAsync(model.evaluate(batch, { kind: 'crossentropy' }))
})
