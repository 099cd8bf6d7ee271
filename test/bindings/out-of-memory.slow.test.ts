import { join } from 'node:path'
import test from 'ava'
import type {
  BaseHandle,
  DecoderSpec,
  LayerSpec,
  PackedBatch,
  RoleHandle,
  WeightMapEntry,
} from '../../lib/addon/addon.js'
import { newFolder } from '../helpers/scratch.js'
import { loadHooks } from './hooks.js'

const { core, hooks } = await loadHooks()
const folder = newFolder()

const layer: LayerSpec = {
  heads: 2,
  kvHeads: 1,
  headDim: 4,
  qkvBias: true,
  outBias: false,
  qkNorm: true,
  window: null,
  rope: { kind: 'default', theta: 10000 },
  mlp: { kind: 'gated', activation: 'silu', intermediateSize: 12, bias: false },
}
const spec: DecoderSpec = {
  vocabSize: 11,
  hiddenSize: 8,
  learnedPositions: null,
  norm: { kind: 'rms', eps: 1e-6 },
  tied: true,
  layers: [layer, layer],
}
const batch: PackedBatch = {
  inputIds: Int32Array.of(1, 2, 3, 4, 5, 6, 7),
  offsets: Int32Array.of(0, 4, 7),
  labels: Int32Array.of(-100, 2, 3, 4, -100, 6, 7),
}
const terms = [{ kind: 'crossEntropy' as const }]
const outOfMemory = { code: 'ERR_OUT_OF_MEMORY' }
const options = {
  beta1: 0.9,
  beta2: 0.999,
  eps: 1e-8,
  weightDecay: 0.1,
  decay: 'matrices' as const,
  moments: 'float32' as const,
}

async function model(): Promise<{ base: BaseHandle; role: RoleHandle; entries: WeightMapEntry[] }> {
  const base = await core.createBase(spec, { device: 'cpu', dtype: 'float32' })
  await core.initialize(base, { seed: 1, std: 0.2, residualScale: 0.5 })
  const role = await core.createRole(base, {})
  const entries = (await core.parameters(role)).map(({ parameter }) => ({ name: parameter, parameter }))
  return { base, role, entries }
}

async function tensors(role: RoleHandle, entries: WeightMapEntry[], which: 'value' | 'gradient') {
  const all = []
  for (const entry of entries) all.push(...(await core.getTensor(role, entry, which)).values)
  return all
}

/** Runs `attempt` with its first allocation failing, then its second, until it needs no more; the number of failures. */
async function failEach(attempt: () => Promise<unknown>, afterwards: (error: Error) => Promise<void>) {
  for (let after = 0; ; after++) {
    hooks.failAllocation(after)
    const error = await attempt().then(
      () => null,
      (reason) => reason,
    )
    hooks.failAllocation(-1)
    if (error === null) return after
    await afterwards(error)
  }
}

for (const checkpointing of [false, true]) {
  test.serial(`each allocation of a backward fails once, checkpointing ${checkpointing}`, async (t) => {
    const { base, role, entries } = await model()
    const optimizer = await core.createOptimizer(role, options)
    const backward = () => core.backward(role, batch, terms, { normalizer: 5, checkpointing })
    const expected = await backward()
    const gradients = await tensors(role, entries, 'gradient')
    await core.zeroGrad(role)
    const allocated = (await core.info()).allocatedBytes
    let dirty = 0
    const failures = await failEach(backward, async (error) => {
      t.is((error as { code?: string }).code, 'ERR_OUT_OF_MEMORY', error.message)
      // Gradients of a failed backward are either untouched or refused.
      const changed = (await tensors(role, entries, 'gradient')).some((value) => value !== 0)
      if (changed) {
        dirty++
        const step = core.optimizerStep(optimizer, { learningRate: 0.1, maxGradNorm: 1 })
        await t.throwsAsync(step, { code: 'ERR_INVALID_ARGUMENT', message: /zeroGrad/ })
      }
      await core.zeroGrad(role)
    })
    t.true(failures > 50 && dirty > 10, `${failures} failures, ${dirty} dirty`)
    await core.zeroGrad(role)
    t.is((await core.info()).allocatedBytes, allocated)
    t.deepEqual(await backward(), expected)
    t.deepEqual(await tensors(role, entries, 'gradient'), gradients)
    await Promise.all([base, role, optimizer].map((handle) => core.dispose(handle)))
  })
}

test.serial('a backward that works does not clean the gradients of one that failed', async (t) => {
  const { base, role } = await model()
  const optimizer = await core.createOptimizer(role, options)
  const backward = () => core.backward(role, batch, terms, { normalizer: 5 })
  hooks.failAllocation(40)
  await t.throwsAsync(backward(), outOfMemory)
  await backward()
  const step = () => core.optimizerStep(optimizer, { learningRate: 0.1, maxGradNorm: 1 })
  await t.throwsAsync(step(), { code: 'ERR_INVALID_ARGUMENT', message: /zeroGrad/ })
  await core.zeroGrad(role)
  await backward()
  t.true((await step()).applied)
  await Promise.all([base, role, optimizer].map((handle) => core.dispose(handle)))
})

test.serial(
  'each allocation of a step of the optimizer fails once: as before, or refused for ever',
  async (t) => {
    const run = async (after: number) => {
      const { base, role, entries } = await model()
      const optimizer = await core.createOptimizer(role, options)
      const step = () => core.optimizerStep(optimizer, { learningRate: 0.1, maxGradNorm: 0.1 })
      await core.backward(role, batch, terms, { normalizer: 5 })
      hooks.failAllocation(after)
      const error = await step().then(
        () => null,
        (reason) => reason,
      )
      hooks.failAllocation(-1)
      let outcome: 'worked' | 'again' | 'refused' = 'worked'
      if (error !== null) {
        t.is(error.code, 'ERR_OUT_OF_MEMORY')
        outcome = await step().then(
          () => 'again' as const,
          () => 'refused' as const,
        )
        if (outcome === 'refused') {
          await t.throwsAsync(step(), { message: /midway/ })
          await t.throwsAsync(core.saveOptimizer(optimizer, join(folder, 'moments')), { message: /midway/ })
        }
      }
      const values = await tensors(role, entries, 'value')
      await Promise.all([base, role, optimizer].map((handle) => core.dispose(handle)))
      return { outcome, values }
    }
    const { values } = await run(-1)
    let failures = 0
    for (let after = 0; ; after++) {
      const result = await run(after)
      if (result.outcome !== 'refused') t.deepEqual(result.values, values)
      if (result.outcome === 'worked') break
      failures++
    }
    t.true(failures > 5, `${failures} failures`)
  },
)

test.serial('each allocation of a generation fails once', async (t) => {
  const { base, role } = await model()
  const sampling = {
    maxNewTokens: Int32Array.of(6, 6),
    temperature: 1,
    topK: 0,
    topP: 1,
    minP: 0,
    repetitionPenalty: 1,
    seed: 3,
    stopIds: new Int32Array(),
  }
  const generate = async () => {
    const session = await core.createSession(role, [Int32Array.of(1, 2), Int32Array.of(3)], sampling)
    try {
      return await core.advance(session, 6)
    } finally {
      await core.dispose(session)
    }
  }
  const expected = await generate()
  const allocated = (await core.info()).allocatedBytes
  const failures = await failEach(generate, async (error) => {
    t.is((error as { code?: string }).code, 'ERR_OUT_OF_MEMORY', error.message)
  })
  t.true(failures > 50, `${failures} failures`)
  t.deepEqual(await generate(), expected)
  t.is((await core.info()).allocatedBytes, allocated)
  await Promise.all([base, role].map((handle) => core.dispose(handle)))
})

test.serial('each allocation of a load fails once, and a load again repairs the weights', async (t) => {
  const { base, role, entries } = await model()
  const path = join(folder, 'weights.safetensors')
  // What has the dtype of the weights is read into its place, without memory of its own.
  await core.saveTensors(role, path, entries, { dtype: 'bfloat16', metadata: {} })
  await core.loadTensors(role, [{ path, entries }])
  const values = await tensors(role, entries, 'value')
  const other = await core.createBase(spec, { device: 'cpu', dtype: 'float32' })
  const otherRole = await core.createRole(other, {})
  const load = () => core.loadTensors(otherRole, [{ path, entries }])
  const failures = await failEach(load, async (error) => {
    t.is((error as { code?: string }).code, 'ERR_OUT_OF_MEMORY', error.message)
  })
  t.true(failures >= 1, `${failures} failures`)
  t.deepEqual(await tensors(otherRole, entries, 'value'), values)
  await Promise.all([base, role, other, otherRole].map((handle) => core.dispose(handle)))
  t.deepEqual((await hooks.objects()).keptBytes, 0)
})
