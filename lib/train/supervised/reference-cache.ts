import type { PackedBatch } from '../../addon/addon.js'
import { call } from '../../addon/call.js'
import type { Loader } from '../../data/index.js'
import { PosttrainError } from '../../errors.js'
import type { CausalLM } from '../../models/causal-lm.js'
import type { TrainBatch } from './objective.js'

/** Answers that have a place among all of the run. */
type PlacedBatch = TrainBatch & PackedBatch & { places: Int32Array; epoch: number }

/** Sums over the labels of each document. */
export function documentSums({ offsets }: PackedBatch, logProbs: Float64Array): Float64Array {
  return Float64Array.from({ length: offsets.length - 1 }, (_, d) =>
    logProbs.subarray(offsets[d], offsets[d + 1]).reduce((sum, value) => sum + value, 0),
  )
}

/** Summed log-probability of the labels of each document of a batch. */
export async function answerLogProbs(
  model: CausalLM,
  batch: PackedBatch,
  signal: AbortSignal | undefined,
): Promise<Float64Array> {
  const { core, handle } = model.role
  const { logProbs } = await call(core, (cancel) => core.logProbs(handle, batch, {}, cancel), signal)
  return documentSums(batch, logProbs)
}

/**
 * What the reference says of each answer, computed once and kept. The last bits of a number depend on what is computed
 * beside it, so that an answer is always computed in its batch of the first epoch: a resumed run has the same bits.
 */
export class ReferenceCache {
  #model: CausalLM | null
  readonly #train: Loader<PlacedBatch>
  readonly #known = new Map<number, number>()

  constructor(model: CausalLM, train: Loader<PlacedBatch>) {
    this.#model = model
    this.#train = train
  }

  /** Asks for every answer now. */
  async fill(loader: Loader<PlacedBatch>, signal: AbortSignal | undefined): Promise<void> {
    for await (const batch of loader.epoch(0)) await this.sums(batch, signal)
  }

  /** From now on only what is known is told: the model changes. */
  close(): void {
    this.#model = null
  }

  /** Mean log-probability of the first answers: by it a resume knows the reference again. */
  async first(signal: AbortSignal | undefined): Promise<number | null> {
    for await (const batch of this.#train.epoch(0)) {
      const sums = await this.sums(batch, signal)
      return sums.reduce((sum, value) => sum + value, 0) / sums.length
    }
    return null
  }

  /** Summed log-probabilities of the answers of a batch, [D]. */
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

  /** Of answers that are not in the set; nothing is kept. */
  async other(batch: PackedBatch, signal: AbortSignal | undefined): Promise<Float64Array> {
    if (this.#model === null) throw new PosttrainError('ERR_INTERNAL', 'the reference is no longer there')
    return await answerLogProbs(this.#model, batch, signal)
  }
}
