import test from 'ava'
import { crossEntropy } from '../../lib/losses/index.js'
import { close } from '../helpers/close.js'
import { fixture, readJson } from '../helpers/fixtures.js'

interface Functions {
  crossEntropy: { logits: number[]; labels: number[]; loss: number; gradient: number[] }
}
const { crossEntropy: truth } = readJson<Functions>(fixture('functions.json'))
const labels = Int32Array.from(truth.labels)

test('value and gradient are torch’s, in float64 and float32', async (t) => {
  const wide = await crossEntropy(Float64Array.from(truth.logits), labels, { gradient: true })
  close(t, wide.loss, truth.loss, { absolute: 1e-12 })
  close(t, wide.gradient!, truth.gradient, { absolute: 1e-12 }, 'gradient')
  t.true(wide.gradient instanceof Float64Array)
  t.is(wide.count, 4)
  const single = await crossEntropy(Float32Array.from(truth.logits), labels, { gradient: true })
  close(t, single.loss, truth.loss, { absolute: 1e-6 })
  close(t, single.gradient!, truth.gradient, { absolute: 1e-6 }, 'gradient')
})

test('by hand: -log(e² / (e² + e + 1))', async (t) => {
  const { loss } = await crossEntropy(new Float64Array([2, 1, 0, 5, 5, 5]), Int32Array.of(0, -100))
  close(t, loss, -Math.log(Math.exp(2) / (Math.exp(2) + Math.E + 1)), { absolute: 1e-12 })
})

test('the gradient is that of finite differences in float64', async (t) => {
  const logits = Float64Array.from(truth.logits)
  const { gradient } = await crossEntropy(logits, labels, { gradient: true })
  const step = 1e-5
  for (let i = 0; i < logits.length; i += 3) {
    const at = async (value: number) => (await crossEntropy(logits.with(i, value), labels)).loss
    const slope = ((await at(logits[i]! + step)) - (await at(logits[i]! - step))) / (2 * step)
    close(t, gradient![i]!, slope, { absolute: 1e-9 }, `gradient ${i}`)
  }
})

test('masked rows change nothing, and all masked is 0', async (t) => {
  const logits = Float64Array.from(truth.logits)
  const changed = logits.map((value, i) => (Math.floor(i / 11) === 1 ? value * 7 + 3 : value))
  const [one, other] = [await crossEntropy(logits, labels), await crossEntropy(changed, labels)]
  t.is(one.loss, other.loss)
  const none = await crossEntropy(
    logits,
    labels.map(() => -100),
    { gradient: true },
  )
  t.is(none.loss, 0)
  t.is(none.count, 0)
  t.true(none.gradient!.every((value) => value === 0))
})

test('large logits do not overflow, and what is not finite is told', async (t) => {
  const { loss } = await crossEntropy(new Float32Array([1e4, 0, -1e4]), Int32Array.of(1))
  close(t, loss, 1e4, { relative: 1e-6 })
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const result = await crossEntropy(new Float32Array([1, bad, 2, 0]), Int32Array.of(0), { gradient: true })
    t.true(Number.isNaN(result.loss))
    t.true(result.gradient!.every(Number.isNaN))
  }
})

test('wrong sizes and labels are errors that name them', async (t) => {
  await t.throwsAsync(crossEntropy(new Float32Array(7), Int32Array.of(0, 1)), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /7 values/,
  })
  await t.throwsAsync(crossEntropy(new Float32Array(6), Int32Array.of(0, 3)), {
    code: 'ERR_INVALID_ARGUMENT',
    message: /label 3 of row 1/,
  })
})
