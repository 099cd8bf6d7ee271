import type { CancelHandle, RoleHandle } from './handles.js'
import type { LossTerm, TermResult } from './terms.js'

/** The label of a token that is not to be predicted: torch's default `ignore_index`. */
export const IGNORE_INDEX = -100

export interface PackedBatch {
  /** Token ids, all documents one after another, [T]. */
  inputIds: Int32Array
  /** Document d is tokens offsets[d] to offsets[d + 1] - 1, [D + 1], from 0 to T. No token sees another document. */
  offsets: Int32Array
  /** labels[t] is the token at t if it is to be predicted from the tokens before it, else IGNORE_INDEX (-100); unshifted, [T]. */
  labels?: Int32Array
  /** Weight of each label, [T]; 1 where absent. */
  weights?: Float32Array
}

export interface BackwardOptions {
  /** The loss is divided by this: the count of the whole optimizer step. */
  normalizer: number
  /** Keep only the input of each block and run it again in the backward. */
  checkpointing?: boolean
  /** Log-probabilities are those of logits / temperature; default 1. */
  temperature?: number
  /** Other than 0: LoRA dropout is on, drawn from it. */
  dropoutSeed?: number
}

/** Forwards and backwards of a role. Shapes: T tokens of a packed batch, D documents, V vocabulary. */
export interface TrainingCalls {
  backward(
    role: RoleHandle,
    batch: PackedBatch,
    terms: LossTerm[],
    options: BackwardOptions,
    cancel?: CancelHandle,
  ): Promise<TermResult[]>
  /** The same numbers without a gradient. */
  evaluate(
    role: RoleHandle,
    batch: PackedBatch,
    terms: LossTerm[],
    options: { temperature?: number },
    cancel?: CancelHandle,
  ): Promise<TermResult[]>
  /** [T, V], row t predicts token t + 1. */
  logits(role: RoleHandle, batch: PackedBatch, cancel?: CancelHandle): Promise<Float32Array>
  /** [T]: log p(labels[t]) given the tokens before t, and the entropy of that prediction; 0 where there is no label. */
  logProbs(
    role: RoleHandle,
    batch: PackedBatch,
    options: { temperature?: number },
    cancel?: CancelHandle,
  ): Promise<{ logProbs: Float64Array; entropy: Float64Array }>
  /** [T]: the scalar head where each label is predicted; 0 where there is no label. */
  values(role: RoleHandle, batch: PackedBatch, cancel?: CancelHandle): Promise<Float64Array>
  /** [D]: the scalar head at the last token of each document. */
  scores(role: RoleHandle, batch: PackedBatch, cancel?: CancelHandle): Promise<Float64Array>
  zeroGrad(role: RoleHandle): Promise<void>
}
