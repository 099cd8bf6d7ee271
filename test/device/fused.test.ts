// Our kernels of CUDA against the reference on random shapes: on the CPU their text runs on the block emulator of
// native/test_hooks, where new memory holds NaN and lies between zones that nothing may write to.
import test, { type ExecutionContext } from 'ava'
import type { Dtype } from '../../lib/addon/addon.js'
import { loadHooks } from '../bindings/hooks.js'
import { close } from '../helpers/close.js'

const device = process.env.POSTTRAIN_TEST_DEVICE ?? 'cpu'
const { hooks } = await loadHooks()

/** Half a unit in the last place, with that of a number that is rounded twice; sums of 4,097 float32 numbers. */
const TOLERANCE = {
  float32: { relative: 2e-5, absolute: 2e-5 },
  bfloat16: { relative: 2 ** -7, absolute: 2e-5 },
  float16: { relative: 2 ** -10, absolute: 2e-5 },
} as const
type Fused = keyof typeof TOLERANCE

/** NaN and the infinities as numbers that no row has. */
const told = (values: Float32Array) =>
  values.map((x) => (Number.isFinite(x) ? x : Number.isNaN(x) ? 7777 : x > 0 ? 8888 : 9999))

async function compare(t: ExecutionContext, kernel: string, dtype: Fused, seed: number): Promise<void> {
  const { outputs, launches, guarded } = await hooks.kernelCase(kernel, device, dtype, seed)
  const what = `${kernel} in ${dtype}, seed ${seed}`
  t.true(launches > 0, `${what}: a kernel runs`)
  t.true(guarded, `${what}: nothing beside a tensor is written`)
  for (const { name, actual, expected } of outputs) {
    if (name === 'exact') t.deepEqual(actual, expected, what)
    else close(t, told(actual), told(expected), TOLERANCE[dtype], `${what}: ${name}`)
  }
}

for (const kernel of ['rms', 'rope', 'swiglu', 'label_losses', 'add_rows', 'nf4', 'dropout']) {
  test.serial(`${kernel} computes what the reference does, at any shape`, async (t) => {
    for (const dtype of Object.keys(TOLERANCE) as Fused[])
      for (let seed = 1; seed <= 25; seed++) await compare(t, kernel, dtype, seed)
  })
}

test.serial('what a fused kernel does not take goes to the reference', async (t) => {
  for (const kernel of ['rms', 'rope', 'swiglu', 'dropout']) {
    const { outputs, launches } = await hooks.kernelCase(kernel, device, 'float64' as Dtype, 1)
    t.is(launches, 0)
    for (const { actual, expected } of outputs) close(t, actual, expected, { absolute: 1e-5, relative: 1e-5 })
  }
})

const NO_FAULTS = { launch: 0, fatbin: 0, noCompiler: false }

test.serial('a launch that fails is an error with a code, and the next one runs', async (t) => {
  for (const [launch, code] of [
    [2, 'ERR_OUT_OF_MEMORY'],
    [700, 'ERR_DEVICE_LOST'],
    [719, 'ERR_DEVICE_LOST'],
    [1, 'ERR_INTERNAL'],
  ] as const) {
    hooks.driverFaults({ ...NO_FAULTS, launch })
    await t.throwsAsync(hooks.kernelCase('swiglu', device, 'float32', 1), { code, message: /CUDA error/ })
    await compare(t, 'swiglu', 'float32', 1)
  }
})

test.serial(
  'NVRTC compiles the kernels for a device that the binary lacks, and without it torch serves',
  async (t) => {
    hooks.driverFaults({ ...NO_FAULTS, fatbin: 209 })
    t.is(hooks.kernelSource(), 'nvrtc')
    await compare(t, 'rms', 'bfloat16', 2)
    hooks.driverFaults({ ...NO_FAULTS, fatbin: 209, noCompiler: true })
    t.regex(hooks.kernelSource(), /(no kernel image|built without nvcc).*; NVRTC is missing/)
    t.is((await hooks.kernelCase('rms', device, 'float32', 2)).launches, 0)
    hooks.driverFaults(NO_FAULTS)
  },
)

test.serial(
  'kernels that cannot be loaded just now are an error, and are loaded at the next call',
  async (t) => {
    for (const [fatbin, code] of [
      [2, 'ERR_OUT_OF_MEMORY'],
      [700, 'ERR_DEVICE_LOST'],
    ] as const) {
      hooks.driverFaults({ ...NO_FAULTS, fatbin })
      await t.throwsAsync(hooks.kernelCase('rms', device, 'float32', 2), { code })
      hooks.driverFaults(NO_FAULTS)
      await compare(t, 'rms', 'float32', 2)
    }
  },
)
