import type { BaseHandle, Core, DecoderSpec, Dtype, RoleHandle } from '../addon/addon.js'
import { call } from '../addon/call.js'
import { loadCore } from '../addon/load.js'
import { PosttrainError } from '../errors.js'

export interface LoadOptions {
  /** 'auto' takes the first CUDA device, else the CPU. */
  device?: 'auto' | 'cpu' | 'cuda' | `cuda:${number}`
  /** 'auto' is float32 on the CPU and bfloat16 on CUDA. */
  dtype?: 'auto' | 'float32' | 'bfloat16' | 'float64'
  /** Threads of torch; once per process. */
  threads?: number
  signal?: AbortSignal
}

/** What a model is on the native side; for the rooms of this package. */
export interface NativeModel {
  core: Core
  base: BaseHandle
  role: RoleHandle
}

/** The core, its threads decided before the first job. */
export async function openCore({ threads }: LoadOptions): Promise<Core> {
  const core = await loadCore()
  if (threads !== undefined) await call(core, () => core.configure({ threads }))
  return core
}

/** An empty base and its role on the device and in the dtype asked for. */
export async function createNative(
  core: Core,
  spec: DecoderSpec,
  options: LoadOptions,
): Promise<NativeModel & { device: string; dtype: Dtype }> {
  const { cuda } = await call(core, () => core.info())
  const asked = options.device ?? 'auto'
  const device = asked === 'auto' ? (cuda.devices.length > 0 ? 'cuda:0' : 'cpu') : asked
  if (device !== 'cpu' && cuda.devices.length === 0) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `device ${device} is not there: no CUDA device answers (posttrain doctor tells why)`,
    )
  }
  const dtype =
    options.dtype === undefined || options.dtype === 'auto'
      ? device === 'cpu'
        ? 'float32'
        : 'bfloat16'
      : options.dtype
  if (device === 'cpu' && dtype === 'bfloat16') {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      'dtype bfloat16 on the CPU is refused: its matrix products are many times slower there than in float32',
    )
  }
  const base = await call(core, () => core.createBase(spec, { device, dtype }))
  const role = await call(core, () => core.createRole(base, { adapter: null, head: 'lm' }))
  return { core, base, role, device, dtype }
}

export async function disposeNative({ core, base, role }: NativeModel): Promise<void> {
  await Promise.all([core.dispose(role), core.dispose(base)])
}
