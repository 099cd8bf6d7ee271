// Losses of a model in bfloat16, through the stand-ins of CUDA's operations: its logits are float32 from the product on.
import test from 'ava'
import type { DecoderSpec } from '../../lib/addon/addon.js'
import { loadHooks } from '../bindings/hooks.js'
import { close, distance, norm } from '../helpers/close.js'

const { core } = await loadHooks()
const VOCABULARY = 301

const spec: DecoderSpec = {
  vocabSize: VOCABULARY,
  hiddenSize: 64,
  learnedPositions: null,
  norm: { kind: 'rms', eps: 1e-6, offset: false },
  tied: false,
  layers: [
    {
      ...{ heads: 4, kvHeads: 2, headDim: 16, qkvBias: false, outBias: false, qkNorm: false, window: null },
      rope: { kind: 'default', theta: 10000 },
      mlp: { kind: 'gated', activation: 'silu', intermediateSize: 96, bias: false },
    },
  ],
}

/** A model of these weights in a dtype; on the CPU with the calls of CUDA where it is bfloat16. */
async function made(dtype: 'bfloat16' | 'float32', more: Partial<DecoderSpec>) {
  if (dtype === 'bfloat16') process.env.POSTTRAIN_KERNELS = 'cuda'
  const base = await core.createBase({ ...spec, ...more }, { device: 'cpu', dtype, nf4: false })
  delete process.env.POSTTRAIN_KERNELS
  await core.initialize(base, { seed: 3, std: 0.6, residualScale: 1 })
  return { base, role: await core.createRole(base, {}) }
}

for (const logitSoftCap of [undefined, 12])
  test.serial(
    `gradients at a temperature are those of float32${logitSoftCap ? ', with a soft-cap' : ''}`,
    async (t) => {
      const gradients: Record<string, Float32Array>[] = []
      const names = ['head.weight', 'layers.0.qkv.weight', 'layers.0.down.weight']
      for (const dtype of ['bfloat16', 'float32'] as const) {
        const { base, role } = await made(dtype, logitSoftCap ? { logitSoftCap } : {})
        const inputIds = Int32Array.from({ length: 40 }, (_, i) => (i * 7) % VOCABULARY)
        const batch = { inputIds, labels: inputIds, offsets: Int32Array.of(0, inputIds.length) }
        await core.backward(role, batch, [{ kind: 'crossEntropy' }], { normalizer: 39, temperature: 0.4 })
        const found: Record<string, Float32Array> = {}
        for (const name of names)
          found[name] = (await core.getTensor(role, { name, parameter: name }, 'gradient')).values
        gradients.push(found)
        for (const handle of [role, base]) await core.dispose(handle)
      }
      const [half, whole] = gradients as [Record<string, Float32Array>, Record<string, Float32Array>]
      for (const name of names) {
        // A temperature that is left out makes them 2.5 times as large or small.
        const off = distance(half[name]!, whole[name]!) / norm(whole[name]!)
        t.log(`${name}: ${off}`)
        t.true(off < 0.25, `${name}: ${off}`)
      }
    },
  )

for (const logitSoftCap of [undefined, 12])
  test.serial(
    `log-probabilities at a temperature are those of the divided logits${logitSoftCap ? ', with a soft-cap' : ''}`,
    async (t) => {
      const { base, role } = await made('bfloat16', logitSoftCap ? { logitSoftCap } : {})
      const inputIds = Int32Array.from({ length: 40 }, (_, i) => (i * 7) % VOCABULARY)
      const batch = { inputIds, labels: inputIds, offsets: Int32Array.of(0, inputIds.length) }
      const temperature = 0.7
      const { logProbs } = await core.logProbs(role, batch, { temperature })
      const logits = await core.logits(role, batch)
      t.true(logits.reduce((a, b) => Math.max(a, b)) > 8)
      const expected = Array.from(inputIds, (id, i) => {
        if (i === 0) return 0
        const row = Array.from(logits.subarray((i - 1) * VOCABULARY, i * VOCABULARY), (x) => x / temperature)
        const most = Math.max(...row)
        return row[id]! - most - Math.log(row.reduce((sum, x) => sum + Math.exp(x - most), 0))
      })
      close(t, logProbs, expected, { absolute: 1e-4 }, 'log-probabilities')
      for (const handle of [role, base]) await core.dispose(handle)
    },
  )
