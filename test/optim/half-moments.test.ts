import test from 'ava'
import { AdamW, CausalLM } from '../../lib/index.js'
import { loadHooks } from '../bindings/hooks.js'
import { adamwStep as options, adamwValues as values } from '../helpers/adamw.js'
import { close } from '../helpers/close.js'
import { tinyConfig } from '../helpers/tiny-training.js'
import { byteTokenizer } from '../helpers/tokenizers.js'

const { hooks } = await loadHooks()
const grads = Array.from({ length: 5 }, (_, i) => values(`grad.${i + 1}`))

/** AdamW in float64, with the moments of the step before. */
function exactStep(
  before: Record<'value' | 'first' | 'second', Float32Array>,
  grad: Float32Array,
  step: number,
): Record<'value' | 'first' | 'second', Float64Array> {
  const { learningRate, weightDecay, beta1, beta2, eps, gradScale } = options
  const g = Float64Array.from(grad, (x) => x / gradScale)
  const first = g.map((x, i) => beta1 * before.first[i]! + (1 - beta1) * x)
  const second = g.map((x, i) => beta2 * before.second[i]! + (1 - beta2) * x * x)
  const value = g.map((_, i) => {
    const root = Math.sqrt(second[i]! / (1 - beta2 ** step))
    const moved = (learningRate * first[i]!) / (1 - beta1 ** step) / (root + eps)
    return before.value[i]! * (1 - learningRate * weightDecay) - moved
  })
  return { value, first, second }
}

for (const byOperations of [false, true])
  test(`AdamW with moments in bfloat16 steps in float32 and rounds to a neighbor, ${byOperations ? "by torch's operations" : 'by our loop'}`, (t) => {
    const steps = hooks.adamwHalfMoments(values('value'), grads, { ...options, byOperations })
    const zeros = new Float32Array(grads[0]!.length)
    let before: Record<'value' | 'first' | 'second', Float32Array> = {
      value: values('value'),
      first: zeros,
      second: zeros,
    }
    for (const [i, after] of steps.entries()) {
      const exact = exactStep(before, grads[i]!, i + 1)
      close(t, after.value, exact.value, { relative: 1e-5, absolute: 1e-7 }, `value of step ${i + 1}`)
      // Values of bfloat16 are at most 2^-7 of their size apart.
      for (const name of ['first', 'second'] as const)
        close(t, after[name], exact[name], { relative: 1.01 * 2 ** -7 }, `${name} of step ${i + 1}`)
      t.true(after.second.some((x, at) => x > exact.second[at]!))
      t.true(after.second.some((x, at) => x < exact.second[at]!))
      before = after
    }
  })

test('both roundings of moments in bfloat16 decide by the same hash', (t) => {
  const [loop, operations] = [false, true].map((byOperations) =>
    hooks.adamwHalfMoments(values('value'), grads, { ...options, byOperations }),
  )
  t.is(loop!.length, grads.length)
  for (const [step, of] of loop!.entries()) {
    for (const name of ['first', 'second'] as const) {
      const [a, b] = [of[name], operations![step]![name]]
      // The last bit of float32 may decide.
      t.true(a.filter((x, i) => x !== b[i]).length <= a.length / 1000, `${name} of step ${step + 1}`)
    }
  }
})

test('a second moment in bfloat16 goes where the exact one goes, in the mean', (t) => {
  const count = 2048
  const steps = 1500
  const ones = new Float32Array(count).fill(1)
  const after = hooks.adamwHalfMoments(
    ones,
    Array.from({ length: steps }, () => ones),
    { ...options, gradScale: 1 },
  )
  const mean = after.at(-1)!.second.reduce((a, b) => a + b, 0) / count
  close(t, mean, 1 - 0.999 ** steps, { relative: 3e-3 }, 'mean')
})

test('moments in bfloat16 are refused on a model in float64', async (t) => {
  await using model = await CausalLM.create(tinyConfig, {
    seed: 3,
    tokenizer: byteTokenizer(),
    dtype: 'float64',
  })
  await using optimizer = new AdamW(model, { learningRate: 1e-3, moments: 'bfloat16' })
  await t.throwsAsync(optimizer.step(), { message: /rounded moments are for models of 32 or 16 bits/ })
})
