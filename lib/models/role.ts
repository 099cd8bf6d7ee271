import type {
  BackwardOptions,
  Core,
  PackedBatch,
  RoleHandle,
  TermOver,
  TermResult,
  WeightMapEntry,
} from '../addon/addon.js'
import { call } from '../addon/call.js'
import { shown } from '../arguments.js'
import { PosttrainError } from '../errors.js'
import { needOrNothing } from '../files/atomic.js'
import { adapterEntries } from './adapter-entries.js'
import type { Base } from './base.js'
import { type AdapterConfig, adapterConfig } from './lora.js'
import type { LoraOptions } from './options.generated.js'
import type { PeftAdapter } from './peft.js'
import { listParameters, needTensors, type Parameter, planWeights, SCORE } from './weights.js'

/**
 * The native part of a model: a base that it may share with others, an optional adapter and an optional scalar head.
 * `CausalLM` and `RewardModel` build on it.
 */
export class Role {
  readonly base: Base
  readonly scored: boolean
  readonly #handle: RoleHandle
  #adapter: string | null
  #disposed = false

  private constructor(base: Base, handle: RoleHandle, adapter: string | null, scored: boolean) {
    this.base = base
    this.#handle = handle
    this.#adapter = adapter
    this.scored = scored
  }

  /** Creates a role on a base. `score`: with a scalar head, drawn from the seed, or zero without a seed. */
  static async create(
    base: Base,
    options: { adapter?: string | null; score?: { seed?: number } } = {},
  ): Promise<Role> {
    const { core } = base
    const adapter = options.adapter ?? null
    base.acquire()
    try {
      const given = {
        ...(adapter !== null && { adapter: base.adapter(adapter).handle }),
        ...(options.score && { score: options.score }),
      }
      const handle = await call(core, () => core.createRole(base.handle, given))
      return new Role(base, handle, adapter, options.score !== undefined)
    } catch (error) {
      await base.release()
      throw error
    }
  }

  /** A second role on the same base, with an adapter or none, and a copy of the scalar head. */
  async view(adapter: string | null = null): Promise<Role> {
    return await this.#likeThis(this.base, adapter)
  }

  /** A role on a copy of the base, without adapters, and a copy of the scalar head. */
  async clone(): Promise<Role> {
    return await this.#likeThis(await this.base.copy(), null)
  }

  get handle(): RoleHandle {
    this.#refuseDisposed()
    return this.#handle
  }

  /** The core. Throws ERR_DISPOSED after dispose(), as `handle` does. */
  get core(): Core {
    this.#refuseDisposed()
    return this.base.core
  }

  get disposed(): boolean {
    return this.#disposed
  }

  /** Name of the active adapter; null for the base alone. */
  get adapter(): string | null {
    return this.#adapter
  }

  get adapterConfig(): AdapterConfig | null {
    return this.#adapter === null ? null : this.base.adapter(this.#adapter).config
  }

  /** Configuration of the active adapter. Throws ERR_INVALID_ARGUMENT if there is none; `what` names the caller. */
  activeConfig(what: string): AdapterConfig {
    const config = this.adapterConfig
    if (config !== null) return config
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `${what}: no adapter is active; call addAdapter or setAdapter first`,
    )
  }

  async addAdapter(name: string, options: LoraOptions): Promise<void> {
    const { base } = this
    await base.addAdapter(
      name,
      adapterConfig({ family: base.family, spec: base.spec, scored: this.scored }, options),
    )
    await this.setAdapter(name)
  }

  /** Loads and activates an adapter, with its scalar head if this role has one. A failure changes nothing. */
  async loadAdapter(name: string, adapter: PeftAdapter): Promise<void> {
    const { core } = this.base
    const { folder, config, scored, path, entries } = adapter
    if (scored !== this.scored) {
      throw new PosttrainError(
        'ERR_INVALID_FILE',
        scored
          ? `${folder} is the adapter of a reward model: open it with RewardModel.load`
          : `${folder} has no scalar head: it is the adapter of a language model`,
      )
    }
    const before = this.#adapter
    await this.base.addAdapter(name, config)
    try {
      await this.setAdapter(name)
      await call(core, () => core.loadTensors(this.handle, [{ path, entries }]))
    } catch (error) {
      await this.setAdapter(before)
      await this.base.freeAdapter(name)
      throw error
    }
  }

  async setAdapter(name: string | null): Promise<void> {
    const { core } = this.base
    const adapter = name === null ? null : this.base.adapter(name).handle
    await call(core, () => core.setAdapter(this.handle, adapter))
    this.#adapter = name
  }

  /** Deactivates the active adapter and frees it. */
  async removeAdapter(): Promise<void> {
    this.activeConfig('removeAdapter')
    const name = this.#adapter!
    await this.setAdapter(null)
    await this.base.freeAdapter(name)
  }

  /** Merges the active adapter into the weights of the base and frees it. */
  async mergeAdapter(): Promise<void> {
    this.activeConfig('mergeAdapter')
    const { adapters, isShared } = this.base
    const name = this.#adapter!
    const others = [...adapters.keys()].filter((other) => other !== name)
    if (isShared || others.length > 0) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        isShared
          ? 'mergeAdapter changes the weights of the base, which another model shares: dispose that model first'
          : `mergeAdapter changes the weights of the base, which its other adapters (${others.join(', ')}) would no longer fit: save this one with saveAdapter(), then merge it into a freshly loaded base (or use posttrain merge)`,
      )
    }
    await this.base.mergeAdapter(name, !this.scored)
    await this.setAdapter(null)
    await this.base.freeAdapter(name)
  }

  async backward(
    batch: PackedBatch,
    terms: TermOver<RoleHandle>[],
    options: BackwardOptions,
    signal?: AbortSignal,
  ): Promise<TermResult[]> {
    const { core } = this.base
    return await call(core, (cancel) => core.backward(this.handle, batch, terms, options, cancel), signal)
  }

  async evaluate(
    batch: PackedBatch,
    terms: TermOver<RoleHandle>[],
    options: { temperature?: number },
    signal?: AbortSignal,
  ): Promise<TermResult[]> {
    const { core } = this.base
    return await call(core, (cancel) => core.evaluate(this.handle, batch, terms, options, cancel), signal)
  }

  async zeroGrad(): Promise<void> {
    const { core } = this.base
    await call(core, () => core.zeroGrad(this.handle))
  }

  /** All parameters by their names in the files; what is tied is listed once. */
  async parameters(): Promise<Parameter[]> {
    const { core, dtype } = this.base
    return listParameters(this.#entries(), await call(core, () => core.parameters(this.handle)), dtype)
  }

  async getTensor(
    name: string,
    which: 'value' | 'gradient',
  ): Promise<{ shape: number[]; values: Float32Array }> {
    const { core } = this.base
    return await call(core, () => core.getTensor(this.handle, this.#entry(name), which))
  }

  async setTensor(name: string, values: Float32Array): Promise<void> {
    const { core } = this.base
    await call(core, () => core.setTensor(this.handle, this.#entry(name), values))
  }

  /** The content of a plain model folder: weights of the base, and the scalar head if there is one. */
  get plainEntries(): WeightMapEntry[] {
    return [...this.base.family.weights(this.base.spec), ...(this.scored ? [SCORE] : [])]
  }

  /** Writes what is trained, the adapter or the whole model, as one checkpoint file. */
  async saveTrained(path: string, signal?: AbortSignal): Promise<void> {
    await needOrNothing('file', path)
    const { core, dtype } = this.base
    const config = this.adapterConfig
    const options = { dtype: config === null ? dtype : ('float32' as const), metadata: { format: 'pt' } }
    await call(
      core,
      (cancel) => core.saveTensors(this.handle, path, this.#trainedEntries(), options, cancel),
      signal,
    )
  }

  /** Reads a file that saveTrained wrote; its header is checked before the first weight changes. */
  async loadTrained(path: string): Promise<void> {
    const { core, family, spec } = this.base
    await call(core, async (cancel) => {
      const { tensors } = await core.readHeader(path)
      const files =
        this.adapterConfig === null
          ? await planWeights(core, family, spec, [{ path }], this.scored)
          : [{ path, entries: this.#trainedEntries() }]
      const entries = files.flatMap((file) => file.entries)
      needTensors(path, tensors, entries, await core.parameters(this.handle))
      await core.loadTensors(this.handle, files, cancel)
    })
  }

  /** Frees the role; the last user of a base frees the base. Running and later calls fail with ERR_DISPOSED. */
  async dispose(): Promise<void> {
    if (this.#disposed) return
    this.#disposed = true
    await this.base.core.dispose(this.#handle)
    await this.base.release()
  }

  #refuseDisposed(): void {
    if (this.#disposed) throw new PosttrainError('ERR_DISPOSED', 'the model was disposed')
  }

  async #likeThis(base: Base, adapter: string | null): Promise<Role> {
    if (!this.scored) return await Role.create(base, { adapter })
    const role = await Role.create(base, { adapter, score: {} })
    const { values } = await this.getTensor(SCORE.name, 'value')
    await role.setTensor(SCORE.name, values)
    return role
  }

  #trainedEntries(): WeightMapEntry[] {
    const config = this.adapterConfig
    if (config === null) return this.plainEntries
    return [...adapterEntries(config), ...(this.scored ? [SCORE] : [])]
  }

  #entries(): WeightMapEntry[] {
    const config = this.adapterConfig
    return [...this.plainEntries, ...(config === null ? [] : adapterEntries(config))]
  }

  #entry(name: string): WeightMapEntry {
    const entry = this.#entries().find((known) => known.name === name)
    if (entry !== undefined) return entry
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `the model has no parameter ${shown(name)}; parameters() lists them`,
    )
  }
}
