import test, { type ExecutionContext } from 'ava'
import type { CudaDevice } from '../../lib/addon/addon.js'
import { loadCore } from '../../lib/addon/load.js'

const { cuda } = await (await loadCore()).info()

/** What the tests of test/cuda compute on; `POSTTRAIN_TEST_DEVICE` names another, to try the tests themselves. */
export const device = (process.env.POSTTRAIN_TEST_DEVICE ?? (cuda.devices.length > 0 ? 'cuda:0' : null)) as
  | `cuda:${number}`
  | 'cpu'
  | null

if (device === null) {
  test('no CUDA device answers here: the tests of this file are skipped', (t) => {
    t.log(cuda.opened ? 'the CUDA libraries are open' : 'this libtorch has no CUDA, or there is no driver')
    t.deepEqual(cuda.devices, [])
  })
}

/** Loads what a device is compared with, also where POSTTRAIN_KERNELS gives the CPU the calls of another device. */
export async function compared<T>(load: () => Promise<T>): Promise<T> {
  const { POSTTRAIN_KERNELS } = process.env
  delete process.env.POSTTRAIN_KERNELS
  try {
    return await load()
  } finally {
    if (POSTTRAIN_KERNELS !== undefined) process.env.POSTTRAIN_KERNELS = POSTTRAIN_KERNELS
  }
}

/** A test that needs a device: one after another, for they look at its memory. */
export function onDevice(title: string, body: (t: ExecutionContext) => Promise<void>): void {
  if (device === null) test.skip(title, body)
  else test.serial(title, body)
}

/** Memory of the first device as torch counts it. */
export async function deviceMemory(): Promise<CudaDevice> {
  const first = (await (await loadCore()).info()).cuda.devices[0]
  if (first === undefined) throw new Error('no CUDA device answers')
  return first
}
