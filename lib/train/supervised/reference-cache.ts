import type { PackedBatch } from '../../addon/addon.js'
import { call } from '../../addon/call.js'
import type { Loader } from '../../data/index.js'
import { PosttrainError } from '../../errors.js'
import type { CausalLM } from '../../models/causal-lm.js'
import type { TrainBatch } from './objective.js'

/** A batch whose responses have fixed indices in the data of the run. */
type PlacedBatch = TrainBatch & PackedBatch & { places: Int32Array; epoch: number }

/** Sums over the labels of each document, [D]. */
export function documentSums({ offsets }: PackedBatch, logProbs: Float64Array): Float64Array {
  return Float64Array.from({ length: offsets.length - 1 }, (_, d) =>
    logProbs.subarray(offsets[d], offsets[d + 1]).reduce((sum, value) => sum + value, 0),
  )
}

/** Summed log-probability of the labels of each document of a batch, [D]. */
export async function responseLogProbs(
  model: CausalLM,
  batch: PackedBatch,
  signal: AbortSignal | undefined,
): Promise<Float64Array> {
  const { core, handle } = model.role
  const { logProbs } = await call(core, (cancel) => core.logProbs(handle, batch, {}, cancel), signal)
  return documentSums(batch, logProbs)
}

/**
 * Log-probabilities of the responses by the reference, computed once. The last bits of a result depend on the rest of its
 * batch, so every response is computed in its batch of the first epoch: a resumed run has the same bits.
 */
export class ReferenceCache {
  #model: CausalLM | null
  readonly #train: Loader<PlacedBatch>
  readonly #known = new Map<number, number>()

  constructor(model: CausalLM, train: Loader<PlacedBatch>) {
    this.#model = model
    this.#train = train
  }

  /** Computes the log-probabilities of all responses of a loader. */
  async fill(loader: Loader<PlacedBatch>, signal: AbortSignal | undefined): Promise<void> {
    for await (const batch of loader.epoch(0)) await this.sums(batch, signal)
  }

  /** Releases the model, before its weights change; only cached values remain. */
  close(): void {
    this.#model = null
  }

  /** Mean log-probability of the first batch's responses: the fingerprint of the reference. */
  async first(signal: AbortSignal | undefined): Promise<number | null> {
    for await (const batch of this.#train.epoch(0)) {
      const sums = await this.sums(batch, signal)
      return sums.reduce((sum, value) => sum + value, 0) / sums.length
    }
    return null
  }

  /** Summed log-probabilities of the responses of a batch, [D]. */
  async sums(batch: PlacedBatch, signal: AbortSignal | undefined): Promise<Float64Array> {
    const places = Array.from(batch.places)
    if (!places.every((place) => this.#known.has(place))) {
      if (batch.epoch > 0) await this.fill(this.#train, signal)
      else {
        const sums = await this.other(batch, signal)
        for (const [d, place] of places.entries()) this.#known.set(place, sums[d]!)
      }
    }
    return Float64Array.from(places, (place) => this.#known.get(place)!)
  }

  /** Log-probabilities of responses outside the data, [D]; they are not cached. */
  async other(batch: PackedBatch, signal: AbortSignal | undefined): Promise<Float64Array> {
    if (this.#model === null) throw new PosttrainError('ERR_INTERNAL', 'the reference was released')
    return await responseLogProbs(this.#model, batch, signal)
  }
}
