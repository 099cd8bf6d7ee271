import type { PackedBatch } from '../addon/addon.js'
import { call } from '../addon/call.js'
import { IGNORE_INDEX } from '../addon/training.js'
import type { CausalLM } from '../models/causal-lm.js'
import type { RewardModel } from '../models/reward-model.js'
import { chunksByTokens } from './rewards.js'
import type { Response } from './rollout.js'

/** A packed batch of responses, with their places among all responses. */
export interface PackedResponses {
  batch: PackedBatch & { labels: Int32Array }
  /** Place of each document among all responses. */
  responses: number[]
  /** Tokens of the responses, without prompts. */
  actions: number
}

/** Packs prompts with their responses; the tokens of the responses are labels. */
export function packResponses(all: readonly Response[], places: readonly number[]): PackedResponses {
  const offsets = new Int32Array(places.length + 1)
  for (const [d, place] of places.entries()) {
    const { prompt, tokenIds } = all[place]!
    offsets[d + 1] = offsets[d]! + prompt.promptIds.length + tokenIds.length
  }
  const inputIds = new Int32Array(offsets.at(-1)!)
  const labels = new Int32Array(inputIds.length).fill(IGNORE_INDEX)
  let actions = 0
  for (const [d, place] of places.entries()) {
    const { prompt, tokenIds } = all[place]!
    const from = offsets[d]! + prompt.promptIds.length
    inputIds.set(prompt.promptIds, offsets[d])
    inputIds.set(tokenIds, from)
    labels.set(tokenIds, from)
    actions += tokenIds.length
  }
  return { batch: { inputIds, offsets, labels }, responses: [...places], actions }
}

/** Offsets of each response's tokens in vectors over all responses, [B + 1]. */
export function actionOffsets(responses: readonly Response[]): Int32Array {
  const offsets = new Int32Array(responses.length + 1)
  for (const [i, { tokenIds }] of responses.entries()) offsets[i + 1] = offsets[i]! + tokenIds.length
  return offsets
}

/** Copies values per response token into a vector over the tokens of a batch; 0 at the prompts. */
export function scatter(packed: PackedResponses, ofActions: Float64Array, offsets: Int32Array): Float64Array {
  const { offsets: documents } = packed.batch
  const result = new Float64Array(packed.batch.inputIds.length)
  for (const [d, place] of packed.responses.entries()) {
    const values = ofActions.subarray(offsets[place], offsets[place + 1])
    result.set(values, documents[d + 1]! - values.length)
  }
  return result
}

function gather(packed: PackedResponses, ofTokens: Float64Array, into: Float64Array, offsets: Int32Array) {
  const { offsets: documents } = packed.batch
  for (const [d, place] of packed.responses.entries()) {
    const length = offsets[place + 1]! - offsets[place]!
    into.set(ofTokens.subarray(documents[d + 1]! - length, documents[d + 1]), offsets[place])
  }
}

export interface ForwardOptions {
  /** Maximum tokens of one forward; a longer response is run alone. */
  batchTokens: number
  signal?: AbortSignal | undefined
}

async function eachBatch(
  responses: readonly Response[],
  { batchTokens }: ForwardOptions,
  run: (packed: PackedResponses) => Promise<void>,
): Promise<void> {
  for (const [from, to] of chunksByTokens(responses, batchTokens)) {
    await run(
      packResponses(
        responses,
        Array.from({ length: to - from }, (_, i) => from + i),
      ),
    )
  }
}

/** Log-probabilities of the responses' tokens by the training forward, at the temperature of the rollout, [N]. */
export async function logProbsOf(
  model: CausalLM,
  responses: readonly Response[],
  options: ForwardOptions & { temperature: number },
): Promise<{ logProbs: Float64Array; entropy: number }> {
  const offsets = actionOffsets(responses)
  const logProbs = new Float64Array(offsets.at(-1)!)
  let entropy = 0
  await eachBatch(responses, options, async (packed) => {
    const { core, handle } = model.role
    const { temperature } = options
    const result = await call(
      core,
      (cancel) => core.logProbs(handle, packed.batch, { temperature }, cancel),
      options.signal,
    )
    gather(packed, result.logProbs, logProbs, offsets)
    entropy += result.entropy.reduce((sum, value) => sum + value, 0)
  })
  return { logProbs, entropy: entropy / Math.max(1, logProbs.length) }
}

/** Values of the critic before each token of the responses, [N]. */
export async function valuesOf(
  critic: RewardModel,
  responses: readonly Response[],
  options: ForwardOptions,
): Promise<Float64Array> {
  const offsets = actionOffsets(responses)
  const values = new Float64Array(offsets.at(-1)!)
  await eachBatch(responses, options, async (packed) => {
    const ofTokens = await critic.values(packed.batch, options.signal && { signal: options.signal })
    gather(packed, ofTokens, values, offsets)
  })
  return values
}
