// The child of doctor.ts: trains a tiny model for a few steps on each device and reports in one marked line.
import { fileURLToPath } from 'node:url'
import type { Core, DecoderSpec, EngineInfo, LayerSpec } from '../addon/addon.js'
import { type LoadState, loadCore, loadState } from '../addon/load.js'

/** Report of the child process. */
export type SelfTest =
  | { info: EngineInfo; state: LoadState; trained: Trained[] }
  | { error: { code?: string; message: string } }

export interface Trained {
  device: string
  /** Mean loss before and after the steps. */
  first: number
  last: number
  milliseconds: number
  error?: string
}

export const MARK = 'posttrain-self-test '

const layer: LayerSpec = {
  heads: 4,
  kvHeads: 2,
  headDim: 8,
  qkvBias: false,
  outBias: false,
  qkNorm: false,
  window: null,
  rope: { kind: 'default', theta: 10000 },
  mlp: { kind: 'gated', activation: 'silu', intermediateSize: 64, bias: false },
}
const spec: DecoderSpec = {
  vocabSize: 64,
  hiddenSize: 32,
  learnedPositions: null,
  norm: { kind: 'rms', eps: 1e-6 },
  tied: true,
  layers: [layer, layer],
}
const STEPS = 5

async function train(core: Core, device: string): Promise<Trained> {
  const start = performance.now()
  const result: Trained = { device, first: Number.NaN, last: Number.NaN, milliseconds: 0 }
  try {
    const base = await core.createBase(spec, { device, dtype: 'float32' })
    await core.initialize(base, { seed: 0, std: 0.1, residualScale: 0.5 })
    const role = await core.createRole(base, {})
    const decay = {
      ...{ beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0 },
      ...({ decay: 'matrices', moments: 'float32' } as const),
    }
    const optimizer = await core.createOptimizer(role, decay)
    const inputIds = Int32Array.from({ length: 32 }, (_, i) => (i * i) % 23)
    const batch = { inputIds, labels: inputIds, offsets: Int32Array.of(0, 16, 32) }
    for (let step = 0; step <= STEPS; step++) {
      const [sums] = await core.backward(role, batch, [{ kind: 'crossEntropy' }], { normalizer: 30 })
      result.last = sums!.loss / sums!.count
      if (step === 0) result.first = result.last
      await core.optimizerStep(optimizer, { learningRate: 1e-2, maxGradNorm: 1 })
      await core.zeroGrad(role)
    }
    await Promise.all([optimizer, role, base].map((handle) => core.dispose(handle)))
    if (!(result.last < result.first)) result.error = `the loss went from ${result.first} to ${result.last}`
  } catch (error) {
    result.error = (error as Error).message
  }
  result.milliseconds = Math.round(performance.now() - start)
  return result
}

async function test(): Promise<SelfTest> {
  try {
    const core = await loadCore()
    const { cuda } = await core.info()
    const devices = ['cpu', ...cuda.devices.map((_, i) => `cuda:${i}`)]
    const trained: Trained[] = []
    for (const device of devices) trained.push(await train(core, device))
    return { info: await core.info(), state: loadState()!, trained }
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    return { error: { message, ...(code !== undefined && { code }) } }
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  test().then((result) => process.stdout.write(`${MARK}${JSON.stringify(result)}\n`))
}
