// How many kernels a device is asked to run, and how often the host waits for it, counted on the CPU: the calls of CUDA
// run through the stand-ins of native/test_hooks. A launch is a kernel of ours, or an operation of torch that is neither a
// view nor an allocation.
import test from 'ava'
import type { DecoderSpec, Dtype } from '../../lib/addon/addon.js'
import { loadHooks } from '../bindings/hooks.js'
import { close, distance, norm } from '../helpers/close.js'

const { core, hooks } = await loadHooks()
const VOCABULARY = 301

const specOf = (layers: number): DecoderSpec => ({
  vocabSize: VOCABULARY,
  hiddenSize: 64,
  learnedPositions: null,
  norm: { kind: 'rms', eps: 1e-6, offset: false },
  tied: false,
  layers: Array.from({ length: layers }, () => ({
    heads: 4,
    kvHeads: 2,
    headDim: 16,
    qkvBias: false,
    outBias: false,
    qkNorm: false,
    window: null,
    rope: { kind: 'default', theta: 10000 } as const,
    mlp: { kind: 'gated', activation: 'silu', intermediateSize: 96, bias: false } as const,
  })),
})

async function made(spec: DecoderSpec, dtype: Dtype, kernels: 'cuda' | 'cpu') {
  process.env.POSTTRAIN_KERNELS = kernels
  const base = await core.createBase(spec, { device: 'cpu', dtype, nf4: false })
  delete process.env.POSTTRAIN_KERNELS
  await core.initialize(base, { seed: 3, std: 0.1, residualScale: 1 })
  return { base, role: await core.createRole(base, {}) }
}

type Counted = ReturnType<typeof hooks.launches>

async function counted(run: () => Promise<unknown>): Promise<Counted> {
  hooks.countLaunches()
  await run()
  return hooks.launches()
}

/** The launches of one layer, by operation, from those of four layers and of two. */
function ofOneLayer(four: Counted, two: Counted): { operations: [string, number][]; sum: number } {
  const operations = Object.entries(four.operations)
    .map(([name, count]): [string, number] => [name, (count - (two.operations[name] ?? 0)) / 2])
    .filter(([, count]) => count !== 0)
    .sort(([, a], [, b]) => b - a)
  return { operations, sum: operations.reduce((sum, [, count]) => sum + count, 0) }
}

const inputIds = Int32Array.from({ length: 96 }, (_, i) => (i * 7) % VOCABULARY)
const batch = { inputIds, labels: inputIds, offsets: Int32Array.of(0, 40, 96) }

test.serial('a step of fine-tuning all weights keeps to its launches a layer, and waits twice', async (t) => {
  const runs: Counted[] = []
  for (const layers of [4, 2]) {
    const { base, role } = await made(specOf(layers), 'bfloat16', 'cuda')
    const optimizer = await core.createOptimizer(role, {
      ...{ beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.01, decay: 'all', moments: 'float32' },
    })
    const backward = () => core.backward(role, batch, [{ kind: 'crossEntropy' }], { normalizer: 94 })
    const step = () => core.optimizerStep(optimizer, { learningRate: 1e-3, maxGradNorm: 1 })
    await backward()
    await step()
    runs.push(await counted(backward))
    const rest = await counted(async () => {
      await core.zeroGrad(role)
      await step()
    })
    t.log(`${layers} layers: optimizer ${JSON.stringify(rest.operations)}`)
    t.is(runs.at(-1)!.waits + rest.waits, 2)
    // The norm, the update and the rounding of the master weights each take all parameters.
    t.true(Object.values(rest.operations).reduce((a, b) => a + b, 0) <= 12)
    for (const handle of [optimizer, role, base]) await core.dispose(handle)
  }
  const { sum, operations } = ofOneLayer(runs[0]!, runs[1]!)
  t.log(`${sum} launches a layer: ${operations.map(([name, count]) => `${count} ${name}`).join(', ')}`)
  // What is counted is what runs.
  t.is(operations.find(([name]) => name === 'aten::_flash_attention_forward')?.[1], 1)
  t.true(sum > 20 && sum <= 31, `${sum}`)
})

/** LoRA on all linear layers of a block: first row and rows of each in the fused layer. */
const ADAPTED = [
  ['qkv', 0, 64],
  ['qkv', 64, 32],
  ['qkv', 96, 32],
  ['out', 0, 64],
  ['up', 0, 96],
  ['up', 96, 96],
  ['down', 0, 64],
] as const

test.serial('a backward of LoRA keeps to its launches a layer: one A for what reads one input', async (t) => {
  const runs: Counted[] = []
  for (const layers of [4, 2]) {
    const { base, role } = await made(specOf(layers), 'bfloat16', 'cuda')
    const modules = Array.from({ length: layers }, (_, layer) =>
      ADAPTED.map(([linear, first, count], i) => ({
        ...{ name: `${layer}.${i}`, layer, linear, rows: [first, count] as [number, number] },
        ...{ rank: 8, scale: 2 },
      })),
    ).flat()
    const adapter = await core.createAdapter(base, { modules, copies: [], dropout: 0, dora: false, seed: 1 })
    await core.setAdapter(role, adapter)
    const backward = () => core.backward(role, batch, [{ kind: 'crossEntropy' }], { normalizer: 94 })
    await backward()
    runs.push(await counted(backward))
    t.is(runs.at(-1)!.waits, 1)
    for (const handle of [role, adapter, base]) await core.dispose(handle)
  }
  const { sum, operations } = ofOneLayer(runs[0]!, runs[1]!)
  t.log(`${sum} launches a layer: ${operations.map(([name, count]) => `${count} ${name}`).join(', ')}`)
  t.true(sum <= 72, `${sum}`)
})

test.serial('a decoded token keeps to its launches a layer, and several of them wait once', async (t) => {
  const runs: Counted[] = []
  for (const layers of [4, 2]) {
    const { base, role } = await made(specOf(layers), 'bfloat16', 'cuda')
    const session = await core.createSession(role, [Int32Array.of(1, 2, 3), Int32Array.of(4)], {
      temperature: 1,
      topK: 0,
      topP: 1,
      minP: 0,
      repetitionPenalty: 1,
      seed: 0,
      maxNewTokens: Int32Array.of(20, 20),
      stopIds: new Int32Array(),
    })
    await core.advance(session, 3)
    runs.push(await counted(() => core.advance(session, 1)))
    t.is(runs.at(-1)!.waits, 1)
    t.is((await counted(() => core.advance(session, 8))).waits, 1)
    for (const handle of [session, role, base]) await core.dispose(handle)
  }
  const { sum, operations } = ofOneLayer(runs[0]!, runs[1]!)
  t.log(`${sum} launches a layer: ${operations.map(([name, count]) => `${count} ${name}`).join(', ')}`)
  t.true(sum <= 12, `${sum}`)
})

test.serial('a loss that depends on its log-probabilities waits once, whatever the chunks', async (t) => {
  const spec = {
    ...specOf(1),
    hiddenSize: 16,
    layers: specOf(1).layers.map((layer) => ({ ...layer, heads: 2 })),
  }
  // More rows than one chunk has.
  const length = 9000
  const ids = Int32Array.from({ length }, (_, i) => (i * 11) % VOCABULARY)
  const offsets = Int32Array.from({ length: length / 100 + 1 }, (_, i) => i * 100)
  const values = (scale: number) => Float64Array.from({ length }, (_, i) => scale * Math.sin(i))
  const term = {
    kind: 'ppoPolicy',
    oldLogProbs: values(0.3).map((x) => x - 5.7),
    advantages: values(1),
    entropyCoefficient: 0.1,
  } as const
  const results: { loss: number; gradient: Float32Array }[] = []
  for (const kernels of ['cpu', 'cuda'] as const) {
    const { base, role } = await made(spec, 'float32', kernels)
    const run = async () => {
      const [sums] = await core.backward(role, { inputIds: ids, labels: ids, offsets }, [term], {
        normalizer: length,
        temperature: 0.7,
      })
      const parameter = 'layers.0.qkv.weight'
      const { values: gradient } = await core.getTensor(role, { name: parameter, parameter }, 'gradient')
      results.push({ loss: sums!.loss, gradient })
    }
    const { waits } = await counted(run)
    // One of them is for the gradient that the test reads.
    if (kernels === 'cuda') t.is(waits, 2)
    for (const handle of [role, base]) await core.dispose(handle)
  }
  const [expected, actual] = results
  close(t, actual!.loss, expected!.loss, { relative: 1e-5 }, 'loss')
  t.true(distance(actual!.gradient, expected!.gradient) < 1e-4 * norm(expected!.gradient))
})

test.serial('a token that the reference decodes copies no keys and values', async (t) => {
  const { base, role } = await made(specOf(1), 'float64', 'cpu')
  const positions = 2000
  const session = await core.createSession(
    role,
    [5, 6].map((id) => new Int32Array(positions).fill(id)),
    {
      ...{ temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 0 },
      maxNewTokens: Int32Array.of(20, 20),
      stopIds: new Int32Array(),
    },
  )
  await core.advance(session, 3)
  await core.resetPeak()
  const { allocatedBytes } = await core.info()
  await core.advance(session, 1)
  const { peakAllocatedBytes } = await core.info()
  // Keys and values of two heads of 16 in each row.
  const cached = 2 * positions * 2 * 2 * 16 * 8
  t.true(
    peakAllocatedBytes - allocatedBytes < cached / 2,
    `${peakAllocatedBytes - allocatedBytes} of ${cached}`,
  )
  for (const handle of [session, role, base]) await core.dispose(handle)
})
