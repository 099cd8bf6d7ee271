// The weights that models share, and the ownership of all handles.
//
// - A base frees its weights and all adapters on it when its last role is released: `acquire` when a role is created,
//   `release` when it is disposed. Nothing else counts its users.
// - A role frees itself in dispose(), which users call through the dispose() of a model. A run frees what it creates for
//   itself (a reference, a critic, an adapter).
// - A base owns its adapters: `freeAdapter` (when one is removed or merged) or the end of the base frees them.
// - Optimizer state is freed by the optimizer's own dispose(), before or after the model's.
// - The core counts references: a running job keeps what it uses until it ends, and a handle that was never disposed is
//   freed when JavaScript collects it.
import type { AdapterHandle, BaseHandle, Core, DecoderSpec, Dtype, WeightMapEntry } from '../addon/addon.js'
import { call } from '../addon/call.js'
import { loadCore } from '../addon/load.js'
import { is, needArgument, needOptions } from '../arguments.js'
import { PosttrainError } from '../errors.js'
import { HUB_RULES } from '../files/hub/options.js'
import type { HubOptions } from '../files/hub/snapshot.js'
import type { Family, HfConfig } from './families/index.js'
import type { ModelSource } from './hub.js'
import { type AdapterConfig, adapterSpec } from './lora.js'
import { type Quantization, quantizationIn } from './quantization.js'
import { inFourBits } from './weights.js'

/** Device, precision and threads of a model. */
export interface LoadOptions extends HubOptions {
  /** 'auto' takes the first CUDA device, else the CPU. Defaults to `'auto'`. */
  device?: 'auto' | 'cpu' | 'cuda' | `cuda:${number}`
  /** 'auto' is float32 on the CPU and bfloat16 on CUDA from compute capability 8.0 on; bfloat16 is refused on the CPU. Defaults to `'auto'`. */
  dtype?: 'auto' | 'float32' | 'bfloat16' | 'float64'
  /**
   * `'nf4'` keeps the linear layers of the blocks frozen in 4 bits (NormalFloat 4 in blocks of 64 with double quantization,
   * Dettmers et al. 2023, arXiv 2305.14314, in the numbers of bitsandbytes), 0.52 bytes a weight: adapters are trained upon
   * them (QLoRA). A folder that bitsandbytes saved in NF4 is read so by itself. Default: weights in `dtype`.
   */
  quantize?: 'nf4'
  /** Threads of torch, set once per process. An integer of at least 1. Default: OMP_NUM_THREADS, else the physical cores of this process. */
  threads?: number
  /**
   * Sums on CUDA in one order, so that a run repeats to the bit on the same machine, at some cost in speed; for the whole
   * process, from the first model that asks for it. The CPU always does. Defaults to `false`.
   */
  deterministic?: boolean
  /** Aborts loading (between two tensors) and downloads. Optional. */
  signal?: AbortSignal
}

/** Refuses options of the wrong kind; which devices there are is known later. */
export function needLoadOptions(where: string, options: unknown): void {
  needOptions(where, options, {
    ...HUB_RULES,
    device: {
      test: (value) => /^(auto|cpu|cuda(:\d{1,3})?)$/.test(String(is.text.test(value) ? value : '')),
      expected: "'auto', 'cpu', 'cuda' or 'cuda:N'",
    },
    dtype: is.oneOf('auto', 'float32', 'bfloat16', 'float64'),
    quantize: is.oneOf('nf4'),
    threads: is.positive,
    deterministic: is.flag,
  })
}

/** The options with which a model of files is loaded: weights in 4 bits stay so. */
export const asStored = (
  options: LoadOptions,
  files: readonly { entries: WeightMapEntry[] }[],
): LoadOptions => (inFourBits(files) ? { ...options, quantize: 'nf4' } : options)

/** Loads the core and sets, before the first job, what holds for the process. */
export async function openCore({ threads, deterministic = false }: LoadOptions): Promise<Core> {
  const core = await loadCore()
  if (threads !== undefined || deterministic)
    await call(core, () => core.configure({ ...(threads !== undefined && { threads }), deterministic }))
  return core
}

interface BaseParts {
  family: Family
  spec: DecoderSpec
  config: HfConfig
  /** Origin of the weights: a folder, or org/name of the Hub at a revision; null for new weights. */
  source: Pick<ModelSource, 'name' | 'revision'> | null
}

/** Where and in what precision a base is in memory. */
interface Place {
  device: string
  dtype: Dtype
  quantize: Quantization
}

interface Adapter {
  readonly handle: AdapterHandle
  readonly config: AdapterConfig
}

/** Weights in memory that several roles may share, and the adapters on them. */
export class Base {
  readonly core: Core
  readonly handle: BaseHandle
  readonly family: Family
  #spec: DecoderSpec
  #config: HfConfig
  readonly source: BaseParts['source']
  readonly device: string
  readonly dtype: Dtype
  /** `'nf4'`: the linear layers of the blocks are in 4 bits, and nothing of the base can be trained. */
  readonly quantize: Quantization
  readonly #adapters = new Map<string, Adapter>()
  #users = 0

  private constructor(core: Core, handle: BaseHandle, parts: BaseParts & Place) {
    this.core = core
    this.handle = handle
    this.family = parts.family
    this.#spec = parts.spec
    this.#config = parts.config
    this.source = parts.source
    this.device = parts.device
    this.dtype = parts.dtype
    this.quantize = parts.quantize
  }

  /** Creates a base with uninitialized weights and no users, on the device and in the dtype of the options. */
  static async create(core: Core, parts: BaseParts, options: LoadOptions): Promise<Base> {
    const { device, dtype } = await placeOf(core, options)
    const quantize = options.quantize ?? quantizationIn(parts.config)
    const nf4 = quantize === 'nf4'
    const handle = await call(core, () => core.createBase(parts.spec, { device, dtype, nf4 }))
    return new Base(core, handle, { ...parts, device, dtype, quantize })
  }

  /** Options of the decoder; its head is no longer tied once an adapter was merged that gave it other weights. */
  get spec(): DecoderSpec {
    return this.#spec
  }

  /** config.json as it is saved. */
  get config(): HfConfig {
    return this.#config
  }

  /** A copy of the weights without adapters or users. */
  async copy(): Promise<Base> {
    const { core } = this
    return new Base(core, await call(core, () => core.copyBase(this.handle)), this)
  }

  /** Counts one more role. */
  acquire(): void {
    this.#users++
  }

  /** Counts one role less; after the last one the weights and adapters are freed. */
  async release(): Promise<void> {
    if (--this.#users > 0) return
    await Promise.all([...this.#adapters.values()].map(({ handle }) => this.core.dispose(handle)))
    await this.core.dispose(this.handle)
  }

  /** Whether more than one role uses it. */
  get isShared(): boolean {
    return this.#users > 1
  }

  /** Adapters by name. */
  get adapters(): ReadonlyMap<string, Adapter> {
    return this.#adapters
  }

  /** The adapter of a name. Throws ERR_INVALID_ARGUMENT if there is none. */
  adapter(name: string): Adapter {
    needArgument('the model', 'the name of an adapter', name, is.name)
    const adapter = this.#adapters.get(name)
    if (adapter !== undefined) return adapter
    const known = [...this.#adapters.keys()].join(', ')
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `the model has no adapter ${name}; ${known === '' ? 'it has none' : `it has ${known}`}`,
    )
  }

  /** Creates an adapter, which freezes the base. Throws ERR_INVALID_ARGUMENT for a name already in use. */
  async addAdapter(name: string, config: AdapterConfig): Promise<Adapter> {
    needArgument('the model', 'the name of an adapter', name, is.name)
    const { core } = this
    if (this.#adapters.has(name)) {
      throw new PosttrainError('ERR_INVALID_ARGUMENT', `the model already has an adapter ${name}`)
    }
    const handle = await call(core, () => core.createAdapter(this.handle, adapterSpec(config)))
    const adapter = { handle, config }
    this.#adapters.set(name, adapter)
    return adapter
  }

  /** Creates an adapter with the values of another. */
  async copyAdapter(from: string, to: string): Promise<void> {
    const { core } = this
    const source = this.adapter(from)
    const target = await this.addAdapter(to, source.config)
    await call(core, () => core.copyAdapter(source.handle, target.handle))
  }

  /** Puts an adapter into the weights. `readsHead`: a role has the output projection. */
  async mergeAdapter(name: string, readsHead: boolean): Promise<void> {
    const { core } = this
    const { handle } = this.adapter(name)
    if (this.quantize !== null) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        'an adapter cannot be merged into weights in 4 bits: save it, load the base in 16 bits or more, and merge it there (posttrain merge)',
      )
    }
    const { tied } = await call(core, () => core.mergeAdapter(handle, { readsHead }))
    if (tied === this.#spec.tied) return
    this.#spec = { ...this.#spec, tied }
    this.#config = { ...this.#config, tie_word_embeddings: tied }
  }

  /** Frees an adapter that no role uses. */
  async freeAdapter(name: string): Promise<void> {
    const { handle } = this.adapter(name)
    this.#adapters.delete(name)
    await this.core.dispose(handle)
  }
}

/** The dtype of `'auto'` on a device: before Ampere bfloat16 is emulated. A device that is not here has it. */
export function autoDtype(
  device: string,
  devices: readonly { capability: string }[],
): 'float32' | 'bfloat16' {
  if (device === 'cpu') return 'float32'
  const found = devices[Number(device.split(':')[1] ?? 0)]
  return Number(found?.capability ?? 8) >= 8 ? 'bfloat16' : 'float32'
}

/** Device and dtype of the options; 'auto' resolved. */
async function placeOf(core: Core, options: LoadOptions): Promise<Omit<Place, 'quantize'>> {
  const { cuda } = await call(core, () => core.info())
  const asked = options.device ?? 'auto'
  const device = asked === 'auto' ? (cuda.devices.length > 0 ? 'cuda:0' : 'cpu') : asked
  if (device !== 'cpu' && cuda.devices.length === 0) {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `device ${device} is not available: no CUDA device was found (posttrain doctor tells why)`,
    )
  }
  const given = options.dtype ?? 'auto'
  const dtype = given === 'auto' ? autoDtype(device, cuda.devices) : given
  if (device === 'cpu' && dtype === 'bfloat16') {
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      'dtype bfloat16 is refused on the CPU: its matrix products are many times slower there than in float32',
    )
  }
  return { device, dtype }
}
