import test from 'ava'
import type { DecoderSpec } from '../../lib/addon/addon.js'
import { loadCore, loadState } from '../../lib/addon/load.js'

const spec: DecoderSpec = {
  vocabSize: 16,
  hiddenSize: 8,
  learnedPositions: null,
  norm: { kind: 'rms', eps: 1e-5 },
  tied: true,
  layers: [
    {
      heads: 2,
      kvHeads: 1,
      headDim: 4,
      qkvBias: false,
      outBias: false,
      qkNorm: false,
      window: null,
      rope: { kind: 'default', theta: 10000 },
      mlp: { kind: 'gated', activation: 'silu', intermediateSize: 16, bias: false },
    },
  ],
}

// CI runs this file once for each of the two native builds (POSTTRAIN_BUILD).
test('the build that was asked for is loaded, and ten steps on one batch bring the loss down', async (t) => {
  const core = await loadCore()
  if (process.env.POSTTRAIN_BUILD)
    t.is(loadState()?.build.kind as string | undefined, process.env.POSTTRAIN_BUILD)
  const base = await core.createBase(spec, { device: 'cpu', dtype: 'float32' })
  const role = await core.createRole(base, {})
  await core.initialize(base, { seed: 1, std: 0.02, residualScale: 1 })
  const optimizer = await core.createOptimizer(role, {
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weightDecay: 0,
    decay: 'all',
    moments: 'float32',
  })
  const inputIds = Int32Array.of(3, 1, 4, 1, 5, 9, 2, 6)
  const batch = { inputIds, offsets: Int32Array.of(0, 8), labels: inputIds }
  const losses: number[] = []
  for (let step = 0; step < 10; step++) {
    await core.zeroGrad(role)
    const [term] = await core.backward(role, batch, [{ kind: 'crossEntropy' }], { normalizer: 7 })
    losses.push(term!.loss / term!.count)
    const { applied } = await core.optimizerStep(optimizer, { learningRate: 0.05, maxGradNorm: 1 })
    t.true(applied)
  }
  t.true(Math.abs(losses[0]! - Math.log(16)) < 0.1, `an untrained model guesses evenly: ${losses[0]}`)
  t.true(losses[9]! < losses[0]! / 2, `losses ${losses}`)
  for (const handle of [optimizer, role, base]) await core.dispose(handle)
})
