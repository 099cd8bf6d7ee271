import type { OptimizerHandle } from '../addon/addon.js'
import { call } from '../addon/call.js'
import { is, needArgument, needOptions, shown } from '../arguments.js'
import { PosttrainError } from '../errors.js'
import { needOrNothing } from '../files/atomic.js'
import { Model } from '../models/model.js'

/** Options of `AdamW`, with torch's defaults. */
export interface AdamWOptions {
  /** Learning rate; `step` can override it. At least 0. Required. */
  learningRate: number
  /** Decay of the first moment. In [0, 1). Defaults to `0.9`. */
  beta1?: number
  /** Decay of the second moment. In [0, 1). Defaults to `0.999`. */
  beta2?: number
  /** Added to the root of the second moment. At least 0. Defaults to `1e-8`. */
  eps?: number
  /** Decoupled weight decay. At least 0. Defaults to `0.01`. */
  weightDecay?: number
  /** Which parameters decay: all, as in torch, or matrices only. Defaults to `'all'`. */
  decay?: 'all' | 'matrices'
  /**
   * Precision in which the moments are kept. `'8bit'`: one byte a value with a scale for each block of 256 (Dettmers et
   * al. 2022, arXiv 2110.02861; the layout of bitsandbytes), a quarter of the memory; parameters of fewer than 4,096
   * values, embeddings and learned positions keep float32. `'bfloat16'`: half the memory; each moment is rounded up or
   * down with the odds of the two distances, by a hash of step, parameter and place, since the nearest value would
   * never let go of a second moment that changes by 0.1 % a step. Neither is for models in float64. Defaults to
   * `'float32'`.
   */
  moments?: 'float32' | 'bfloat16' | '8bit'
}

/**
 * AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) over the trainable parameters of a model, with torch's defaults:
 * p -= lr wd p; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g²; p -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
 */
export class AdamW {
  readonly #model: Model
  readonly #options: Required<AdamWOptions>
  #handle: Promise<OptimizerHandle> | null = null
  #disposed = false

  constructor(model: Model, options: AdamWOptions) {
    needArgument('AdamW', 'the model', model, is.a(Model, 'a model'))
    needOptions('AdamW', options, {
      decay: is.oneOf('all', 'matrices'),
      moments: is.oneOf('float32', 'bfloat16', '8bit'),
    })
    this.#model = model
    this.#options = {
      ...{ beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.01, decay: 'all', moments: 'float32' },
      ...options,
    }
    const { learningRate, beta1, beta2, eps, weightDecay } = this.#options
    const need = (ok: boolean, name: string, what: string, value: number) => {
      if (!ok)
        throw new PosttrainError(
          'ERR_INVALID_ARGUMENT',
          `AdamW: ${name} must be ${what}, got ${shown(value)}`,
        )
    }
    need(is.number.test(learningRate) && learningRate >= 0, 'learningRate', 'at least 0', learningRate)
    need(is.number.test(beta1) && beta1 >= 0 && beta1 < 1, 'beta1', 'in [0, 1)', beta1)
    need(is.number.test(beta2) && beta2 >= 0 && beta2 < 1, 'beta2', 'in [0, 1)', beta2)
    need(Number.isFinite(eps) && eps >= 0, 'eps', 'at least 0', eps)
    need(Number.isFinite(weightDecay) && weightDecay >= 0, 'weightDecay', 'at least 0', weightDecay)
  }

  /** Sets all gradients to zero. */
  async zeroGrad(): Promise<void> {
    await this.#model.zeroGrad()
  }

  /**
   * Updates the parameters from the accumulated gradients, clipped to a global L2 norm of `maxGradNorm` (default 0: not
   * clipped). With a norm that is not finite nothing changes and `applied` is false. Throws after a failed backward
   * until zeroGrad().
   */
  async step(
    options: { learningRate?: number; maxGradNorm?: number } = {},
  ): Promise<{ gradNorm: number; applied: boolean }> {
    needOptions('step', options, { learningRate: is.number, maxGradNorm: is.number })
    const handle = await this.#native()
    const { core } = this.#model.role.base
    const given = {
      learningRate: options.learningRate ?? this.#options.learningRate,
      maxGradNorm: options.maxGradNorm ?? 0,
    }
    return await call(core, () => core.optimizerStep(handle, given))
  }

  /** Writes the optimizer state (moments and step count) as one safetensors file, synced; the caller renames it. */
  async save(path: string, signal?: AbortSignal): Promise<void> {
    needArgument('save', 'the path', path, is.path)
    await needOrNothing('file', path)
    const handle = await this.#native()
    const { core } = this.#model.role.base
    await call(core, (cancel) => core.saveOptimizer(handle, path, cancel), signal)
  }

  /** Reads the optimizer state that save() wrote, all or nothing. */
  async load(path: string): Promise<void> {
    needArgument('load', 'the path', path, is.path)
    const handle = await this.#native()
    const { core } = this.#model.role.base
    await call(core, (cancel) => core.loadOptimizer(handle, path, cancel))
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return
    this.#disposed = true
    const handle = this.#handle
    this.#handle = null
    // A failed creation was already reported to the caller that needed it.
    const made = await handle?.catch(() => null)
    if (!made) return
    // The core outlives its models.
    const { loadCore } = await import('../addon/load.js')
    const core = await loadCore()
    await core.dispose(made)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }

  async #native(): Promise<OptimizerHandle> {
    if (this.#disposed) throw new PosttrainError('ERR_DISPOSED', 'the optimizer was disposed')
    const { core, handle } = this.#model.role
    const { learningRate: _, ...options } = this.#options
    this.#handle ??= call(core, () => core.createOptimizer(handle, options))
    return await this.#handle
  }
}
