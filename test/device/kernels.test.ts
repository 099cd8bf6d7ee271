// The kernels of each device against the reference, on models of random shapes: those of CUDA through the stand-ins of
// native/test_hooks, which refuse what the real operations refuse. New memory holds NaN throughout.
import test from 'ava'
import type { Core, DecoderSpec, Dtype, LayerSpec, RoleHandle } from '../../lib/addon/addon.js'
import { loadHooks } from '../bindings/hooks.js'
import { close, distance, norm } from '../helpers/close.js'

type Kernels = 'cpu' | 'reference' | 'cuda'

/** Where the models are; on a GPU the kernels of CUDA are its own, and those of the CPU are left out. */
const device = process.env.POSTTRAIN_TEST_DEVICE ?? 'cpu'
const runsHere = ([, kernels]: readonly [Dtype, Kernels, number]) => device === 'cpu' || kernels !== 'cpu'

const VOCABULARY = 61
const { core, hooks } = await loadHooks()
test.before(() => hooks.poison(true))

/** Numbers that are the same in every run. */
function numbers(seed: number) {
  let state = Math.imul(5 * seed, 2654435761) >>> 0
  const below = (n: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * n)
  }
  const of = <T>(choices: readonly T[]) => choices[below(choices.length)]!
  return { below, of }
}

/** Shapes that every run has: heads of 4 components, grouped heads, a window that longer documents exceed. */
const FIXED: Readonly<Record<number, { kvHeads: number; headDim: number; group: number; window: number }>> = {
  1: { kvHeads: 2, headDim: 4, group: 1, window: 3 },
  2: { kvHeads: 1, headDim: 16, group: 4, window: 50 },
}

function randomSpec(seed: number): DecoderSpec {
  const { of } = numbers(seed)
  const fixed = FIXED[seed]
  const kvHeads = fixed?.kvHeads ?? of([1, 2, 3])
  const headDim = fixed?.headDim ?? of([4, 6, 8, 16, 24])
  const layer = (): LayerSpec => ({
    heads: kvHeads * (fixed?.group ?? of([1, 2, 4])),
    kvHeads,
    headDim,
    qkvBias: of([true, false]),
    outBias: false,
    qkNorm: of([true, false]),
    window: fixed?.window ?? of([null, null, 1, 3, 7, 100]),
    rope: of([
      { kind: 'default', theta: 10000 },
      { kind: 'default', theta: 500, rotaryDim: 2, interleaved: true },
    ] as const),
    attentionScale: of([undefined, 0.4]),
    mlp: {
      kind: 'gated',
      activation: of(['silu', 'silu', 'geluTanh'] as const),
      intermediateSize: 36,
      bias: false,
    },
  })
  return {
    vocabSize: VOCABULARY,
    hiddenSize: 24,
    learnedPositions: null,
    norm: { kind: 'rms', eps: 1e-6, offset: of([true, false]) },
    tied: of([true, false]),
    layers: [layer(), layer()],
  }
}

async function made(spec: DecoderSpec, dtype: Dtype, kernels: Kernels, nf4 = false) {
  process.env.POSTTRAIN_KERNELS = kernels
  const base = await core.createBase(spec, { device, dtype, nf4 })
  delete process.env.POSTTRAIN_KERNELS
  await core.initialize(base, { seed: 3, std: 0.25, residualScale: 1 })
  const role = await core.createRole(base, {})
  return { role, dispose: () => Promise.all([role, base].map((handle) => core.dispose(handle))) }
}

/** Logarithms of how far bfloat16 is off in the kernels of CUDA, to the reference's bfloat16, of each shape. */
const ratios = { logits: [] as number[], gradients: [] as number[] }

function randomBatch(seed: number) {
  const { below } = numbers(seed)
  const offsets = [0]
  // One document is longer than the blocks of a sliding window.
  for (let d = 0; d < 5; d++) offsets.push(offsets.at(-1)! + 1 + below(12) + (d === 2 ? 140 : 0))
  const inputIds = Int32Array.from({ length: offsets.at(-1)! }, () => below(VOCABULARY))
  return { inputIds, offsets: Int32Array.from(offsets), labels: inputIds }
}

/** Log-probabilities of greedy tokens for prompts of other lengths, of which some end early. */
async function decoded(core: Core, role: RoleHandle) {
  const prompts = [[5, 6, 7], [1], [9, 8, 7, 6, 5, 4, 3, 2]].map((ids) => Int32Array.from(ids))
  const session = await core.createSession(role, prompts, {
    temperature: 0,
    topK: 0,
    topP: 1,
    minP: 0,
    repetitionPenalty: 1,
    seed: 0,
    maxNewTokens: Int32Array.of(80, 3, 12),
    stopIds: new Int32Array(),
  })
  const { ids, rows, logProbs } = await core.advance(session, 80)
  await core.dispose(session)
  return { ids: [...ids], rows: [...rows], logProbs, forward: await forwarded(role, prompts, ids, rows) }
}

/** Log-probabilities of the same tokens by a forward of whole rows, which knows no cache. */
async function forwarded(
  role: RoleHandle,
  prompts: readonly Int32Array[],
  ids: ArrayLike<number>,
  rows: ArrayLike<number>,
): Promise<number[]> {
  const whole = prompts.map((prompt) => [...prompt])
  const places = Array.from(ids, (id, i) => whole[rows[i]!]!.push(id) - 2)
  const offsets = [0]
  for (const { length } of whole) offsets.push(offsets.at(-1)! + length)
  const inputIds = Int32Array.from(whole.flat())
  const logits = await core.logits(role, { inputIds, offsets: Int32Array.from(offsets) })
  return places.map((place, i) => {
    const at = (offsets[rows[i]!]! + place) * VOCABULARY
    const row = logits.subarray(at, at + VOCABULARY)
    const most = row.reduce((a, b) => Math.max(a, b))
    return row[ids[i]!]! - most - Math.log(row.reduce((sum, x) => sum + Math.exp(x - most), 0))
  })
}

async function computed(spec: DecoderSpec, dtype: Dtype, kernels: Kernels, seed: number) {
  const { role, dispose } = await made(spec, dtype, kernels)
  const batch = randomBatch(seed)
  const logits = await core.logits(role, batch)
  const results: { loss: number; gradients: Float32Array[] }[] = []
  for (const checkpointing of [false, true]) {
    await core.zeroGrad(role)
    const [sums] = await core.backward(role, batch, [{ kind: 'crossEntropy' }], {
      normalizer: 10,
      checkpointing,
    })
    const gradients: Float32Array[] = []
    for (const { parameter } of await core.parameters(role))
      gradients.push((await core.getTensor(role, { name: parameter, parameter }, 'gradient')).values)
    results.push({ loss: sums!.loss, gradients })
  }
  const generated = await decoded(core, role)
  await dispose()
  const flat = (gradients: Float32Array[]) => gradients.flatMap((values) => [...values])
  const [one, again] = results as [(typeof results)[0], (typeof results)[0]]
  return { logits, loss: one.loss, gradients: flat(one.gradients), again: flat(again.gradients), generated }
}

for (let seed = 1; seed <= Number(process.env.POSTTRAIN_KERNEL_SHAPES ?? 6); seed++) {
  const spec = randomSpec(seed)
  const shape = spec.layers.map(
    ({ heads, kvHeads, headDim, window }) => `${heads}/${kvHeads} x ${headDim}, ${window}`,
  )
  test.serial(
    `shape ${seed} (${shape.join('; ')}): each device computes what the reference does`,
    async (t) => {
      const cases: [Dtype, Kernels, number][] = [
        ['float32', 'cpu', 1e-4],
        ['float32', 'cuda', 1e-4],
        ['float64', 'cpu', 1e-6],
      ]
      for (const [dtype, kernels, absolute] of cases.filter(runsHere)) {
        const what = `${kernels} in ${dtype}`
        const expected = await computed(spec, dtype, 'reference', seed)
        const actual = await computed(spec, dtype, kernels, seed)
        close(t, actual.logits, expected.logits, { absolute }, `${what}: logits`)
        close(t, actual.loss, expected.loss, { absolute: 100 * absolute }, `${what}: loss`)
        const size = norm(expected.gradients)
        t.true(distance(actual.gradients, expected.gradients) <= absolute * size, `${what}: gradients`)
        t.true(
          distance(actual.again, expected.gradients) <= absolute * size,
          `${what}: gradients, checkpointed`,
        )
        t.deepEqual(actual.generated.ids, expected.generated.ids, `${what}: greedy ids`)
        close(
          t,
          actual.generated.logProbs,
          expected.generated.logProbs,
          { absolute: 10 * absolute },
          `${what}: decoded`,
        )
      }
      // In bfloat16 the fused kernels round less than the reference, which rounds the scores.
      const truth = await computed(spec, 'float32', 'reference', seed)
      const reference = await computed(spec, 'bfloat16', 'reference', seed)
      const fused = await computed(spec, 'bfloat16', 'cuda', seed)
      for (const key of ['logits', 'gradients'] as const) {
        const [off, most] = [fused, reference].map((of) => distance(of[key], truth[key]))
        t.true(
          off! <= 1.6 * most! + 1e-3 * norm(truth[key]),
          `bfloat16 ${key}: off by ${off}, the reference by ${most}`,
        )
        ratios[key].push(Math.log(off! / most!))
      }
      t.is(fused.generated.ids.length, 80 + 3 + 12)
      // A row that reads beyond its end, or another's, is off by some units.
      close(t, fused.generated.logProbs, fused.generated.forward, { absolute: 0.1 }, 'bfloat16: decoded')
    },
  )
}

test.serial('in bfloat16 the kernels of CUDA are no further from float32 than the reference', (t) => {
  // One shape is a matter of luck.
  for (const [what, logarithms] of Object.entries(ratios)) {
    const mean = Math.exp(logarithms.reduce((sum, x) => sum + x, 0) / logarithms.length)
    t.true(mean <= 1.1, `${what}: ${mean} times as far`)
  }
})

/** The values of the weights in 4 bits, and the logits of a long document, and of one that is shorter than a batch of decoding. */
async function ofFourBits(spec: DecoderSpec, dtype: Dtype, kernels: Kernels) {
  const { role, dispose } = await made(spec, dtype, kernels, true)
  const names = (await core.parameters(role)).filter(({ dtype }) => dtype === 'nf4')
  const values: Float32Array[] = []
  for (const { parameter } of names)
    values.push((await core.getTensor(role, { name: parameter, parameter }, 'value')).values)
  const logits: Float32Array[] = []
  for (const length of [40, 7]) {
    const inputIds = Int32Array.from({ length }, (_, i) => (i * 5) % VOCABULARY)
    logits.push(await core.logits(role, { inputIds, offsets: Int32Array.of(0, length) }))
  }
  await dispose()
  return { values, logits }
}

for (const hiddenSize of [24, 64])
  test.serial(`weights in 4 bits have the same values on each device, ${hiddenSize} columns`, async (t) => {
    const spec = { ...randomSpec(2), hiddenSize }
    const truth = await ofFourBits(spec, 'float32', 'reference')
    t.is(truth.values.length, 8)
    const cases: [Dtype, Kernels, number][] = [
      ['float32', 'cpu', 1e-4],
      ['float32', 'cuda', 1e-4],
      ['float64', 'cpu', 1e-4],
    ]
    for (const [dtype, kernels, absolute] of cases.filter(runsHere)) {
      const { values, logits } = await ofFourBits(spec, dtype, kernels)
      t.deepEqual(values, truth.values, `${kernels} in ${dtype}`)
      for (const [i, own] of logits.entries())
        close(t, own, truth.logits[i]!, { absolute }, `${kernels} in ${dtype}`)
    }
    // Coded from what the weights are in bfloat16, and decoded to it.
    const half = await ofFourBits(spec, 'bfloat16', 'cuda')
    t.deepEqual(half.values, (await ofFourBits(spec, 'bfloat16', 'reference')).values)
    const own = half.values.flatMap((values) => [...values])
    const most = truth.values.flatMap((values) => [...values])
    t.true(distance(own, most) < 0.02 * norm(most))
  })

test('dropout of CUDA draws what the CPU draws, bit by bit', (t) => {
  for (const [count, p, seed, stream] of [
    [1, 0.5, 1, 0],
    [4099, 0.1, 2 ** 33 + 5, 7],
    [100_000, 0.37, 3, 2 ** 32 - 1],
  ] as const)
    t.deepEqual(
      hooks.dropout('cuda', count, p, seed, stream),
      hooks.dropout('reference', count, p, seed, stream),
    )
})

test.serial('POSTTRAIN_KERNELS of another name is refused', async (t) => {
  process.env.POSTTRAIN_KERNELS = 'fast'
  await t.throwsAsync(core.createBase(randomSpec(1), { device: 'cpu', dtype: 'float32' }), {
    message: /POSTTRAIN_KERNELS must be reference, aten \(on CUDA\) or unset, got fast/,
  })
  delete process.env.POSTTRAIN_KERNELS
})
