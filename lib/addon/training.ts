import type { CancelHandle, RoleHandle } from './handles.js'
import type { TermOver, TermResult } from './terms.js'

/** Label of a token without a loss: torch's default `ignore_index`. */
export const IGNORE_INDEX = -100

export interface PackedBatch {
  /** Token ids of all documents in a row, [T]. */
  inputIds: Int32Array
  /** Document d is tokens offsets[d] to offsets[d + 1] - 1, [D + 1], from 0 to T. Attention stays within a document. */
  offsets: Int32Array
  /** Unshifted, [T]: labels[t] is the token at t if the loss predicts it from the tokens before it, else IGNORE_INDEX (-100). */
  labels?: Int32Array
  /** Weight of each label, [T]; default: 1. */
  weights?: Float32Array
}

export interface BackwardOptions {
  /** Divides the loss: the count of the whole optimizer step. */
  normalizer: number
  /** Activation checkpointing: keeps only each block's input and recomputes the rest in the backward pass. */
  checkpointing?: boolean
  /** Log-probabilities are those of logits / temperature; default 1. */
  temperature?: number
  /** Random seed of LoRA dropout; 0 turns dropout off. */
  dropoutSeed?: number
}

/** Forward and backward passes of a role. Shapes: T tokens of a packed batch, D documents, V vocabulary. */
export interface TrainingCalls {
  backward(
    role: RoleHandle,
    batch: PackedBatch,
    terms: TermOver<RoleHandle>[],
    options: BackwardOptions,
    cancel?: CancelHandle,
  ): Promise<TermResult[]>
  /** The results of `backward` without gradients. */
  evaluate(
    role: RoleHandle,
    batch: PackedBatch,
    terms: TermOver<RoleHandle>[],
    options: { temperature?: number },
    cancel?: CancelHandle,
  ): Promise<TermResult[]>
  /** [T, V]; row t predicts token t + 1. */
  logits(role: RoleHandle, batch: PackedBatch, cancel?: CancelHandle): Promise<Float32Array>
  /** [T]: log p(labels[t]) given the tokens before t, and the entropy of that prediction; 0 where there is no label. */
  logProbs(
    role: RoleHandle,
    batch: PackedBatch,
    options: { temperature?: number },
    cancel?: CancelHandle,
  ): Promise<{ logProbs: Float64Array; entropy: Float64Array }>
  /** [T]: the scalar head at the position that predicts each label; 0 where there is no label. */
  values(role: RoleHandle, batch: PackedBatch, cancel?: CancelHandle): Promise<Float64Array>
  /** [D]: the scalar head at the last token of each document. */
  scores(role: RoleHandle, batch: PackedBatch, cancel?: CancelHandle): Promise<Float64Array>
  zeroGrad(role: RoleHandle): Promise<void>
}
