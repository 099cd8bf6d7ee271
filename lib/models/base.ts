import type { AdapterHandle, BaseHandle, Core, DecoderSpec, Dtype } from '../addon/addon.js'
import { call } from '../addon/call.js'
import { loadCore } from '../addon/load.js'
import { PosttrainError } from '../errors.js'
import type { HubOptions } from '../files/hub/snapshot.js'
import type { Family, HfConfig } from './families/index.js'
import type { ModelSource } from './hub.js'
import type { AdapterConfig } from './lora.js'

export interface LoadOptions extends HubOptions {
  /** 'auto' takes the first CUDA device, else the CPU. */
  device?: 'auto' | 'cpu' | 'cuda' | `cuda:${number}`
  /** 'auto' is float32 on the CPU and bfloat16 on CUDA. */
  dtype?: 'auto' | 'float32' | 'bfloat16' | 'float64'
  /** Threads of torch; once per process. */
  threads?: number
  signal?: AbortSignal
}

/** Weights in memory that several models may stand upon, with the adapters made for them. */
export interface SharedBase {
  readonly core: Core
  readonly handle: BaseHandle
  readonly family: Family
  readonly spec: DecoderSpec
  readonly config: HfConfig
  readonly device: string
  readonly dtype: Dtype
  /** Where it was loaded from: a folder, or org/name of the Hub at a revision; null for a new one. */
  readonly source: Pick<ModelSource, 'name' | 'revision'> | null
  readonly adapters: Map<string, { handle: AdapterHandle; config: AdapterConfig }>
  /** Models that use it: the last one's dispose() frees it. */
  users: number
}

/** The core, its threads decided before the first job. */
export async function openCore({ threads }: LoadOptions): Promise<Core> {
  const core = await loadCore()
  if (threads !== undefined) await call(core, () => core.configure({ threads }))
  return core
}

/** An empty base on the device and in the dtype asked for; nobody uses it yet. */
export async function createBase(
  core: Core,
  of: { family: Family; spec: DecoderSpec; config: HfConfig; source: SharedBase['source'] },
  options: LoadOptions,
): Promise<SharedBase> {
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
  const handle = await call(core, () => core.createBase(of.spec, { device, dtype }))
  return { core, handle, ...of, device, dtype, adapters: new Map(), users: 0 }
}

/** The same weights a second time in memory, without adapters; nobody uses them yet. */
export async function copyBase(base: SharedBase): Promise<SharedBase> {
  const handle = await call(base.core, () => base.core.copyBase(base.handle))
  return { ...base, handle, adapters: new Map(), users: 0 }
}

/** Frees the base and its adapters. */
export async function disposeBase({ core, handle, adapters }: SharedBase): Promise<void> {
  await Promise.all([...adapters.values()].map((adapter) => core.dispose(adapter.handle)))
  await core.dispose(handle)
}
