import type { CancelHandle, RoleHandle, SessionHandle } from './handles.js'

export interface SamplingOptions {
  /** 0: greedy decoding. */
  temperature: number
  /** 0 is off. */
  topK: number
  /** 1 is off. */
  topP: number
  /** 0 is off. */
  minP: number
  /** 1 is off. */
  repetitionPenalty: number
  seed: number
  stopIds: Int32Array
}

/** Tokens generated since the last call, in order. A row's stop token is included. */
export interface SessionAdvance {
  rows: Int32Array
  ids: Int32Array
  /** Log-probability of each id under softmax(logits / temperature) (temperature 0: of the raw logits). */
  logProbs: Float32Array
  /** Rows that finished in this call, and why. */
  finished: { row: number; reason: 'stop' | 'length' }[]
}

/** Generation sessions, advanced by short jobs. */
export interface GenerationCalls {
  createSession(
    role: RoleHandle,
    prompts: Int32Array[],
    /** `maxNewTokens` has a value for each prompt; `batchSize` of them (default 64) are decoded together. */
    options: SamplingOptions & { maxNewTokens: Int32Array; batchSize?: number },
    cancel?: CancelHandle,
  ): Promise<SessionHandle>
  /** Takes up to `tokens` steps: a token for every row that is decoded, or the first token of prompts that take free places. */
  advance(session: SessionHandle, tokens: number, cancel?: CancelHandle): Promise<SessionAdvance>
  /** Finishes rows early, at a stop text. */
  finish(session: SessionHandle, rows: Int32Array): Promise<void>
}
