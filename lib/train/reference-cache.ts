import type { PackedBatch } from '../addon/addon.js'
import { call } from '../addon/call.js'
import type { JudgedSet } from '../data/judged.js'
import { packRows } from '../data/pack.js'
import { PosttrainError } from '../errors.js'
import { type CausalLM, nativeOf } from '../models/causal-lm.js'
import { release } from './reference.js'

/** Answers whose log-probabilities are computed at once. */
const FILL = 8

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
  const { core, role } = nativeOf(model)
  const { logProbs } = await call(core, (cancel) => core.logProbs(role, batch, {}, cancel), signal)
  return documentSums(batch, logProbs)
}

/** What the reference says of each answer: computed when it is first asked for, and kept. */
export class ReferenceCache {
  #model: CausalLM | null
  readonly #owned: boolean
  readonly #known = new Map<number, number>()

  constructor(model: CausalLM, owned: boolean) {
    this.#model = model
    this.#owned = owned
  }

  /** Asks for every answer of a set now. */
  async fill(set: JudgedSet, signal: AbortSignal | undefined): Promise<void> {
    for (const { first, count } of set.judgements) {
      for (let from = first; from < first + count; from += FILL) {
        const places = Array.from({ length: Math.min(FILL, first + count - from) }, (_, i) => from + i)
        const rows = await Promise.all(places.map((place) => set.store.read(place)))
        await this.sums(
          { ...packRows(rows), places: Int32Array.from(places, (place) => set.firstPlace + place) },
          signal,
        )
      }
    }
  }

  /** From now on only what is known is told: the model changes. */
  closed(): this {
    this.#model = null
    return this
  }

  /** Summed log-probabilities of the answers of a batch, by their places in the set, [D]. */
  async sums(
    batch: PackedBatch & { places: Int32Array },
    signal: AbortSignal | undefined,
  ): Promise<Float64Array> {
    const known = this.#known
    const places = Array.from(batch.places)
    if (!places.every((place) => known.has(place))) {
      if (this.#model === null)
        throw new PosttrainError(
          'ERR_INTERNAL',
          'the reference was not asked for an answer before the training',
        )
      const sums = await answerLogProbs(this.#model, batch, signal)
      for (const [d, place] of places.entries()) known.set(place, sums[d]!)
    }
    return Float64Array.from(places, (place) => known.get(place)!)
  }

  /** Of answers that are not in the set; the reference must still be there. */
  async other(batch: PackedBatch, signal: AbortSignal | undefined): Promise<Float64Array> {
    if (this.#model === null) throw new PosttrainError('ERR_INTERNAL', 'the reference is no longer there')
    return await answerLogProbs(this.#model, batch, signal)
  }

  async dispose(): Promise<void> {
    if (this.#owned && this.#model) await release(this.#model)
  }
}
