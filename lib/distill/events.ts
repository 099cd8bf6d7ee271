import type { DistillMode } from './options.js'

/** A row of the output file; `seedId` is `<mode>-<hash of the question>`. */
export type DistilledRow = { seedId: string } & Record<string, unknown>

export interface DistillStartEvent {
  type: 'start'
  mode: DistillMode
  teacher: string
  output: string
  /** Distinct seeds read. */
  seeds: number
  /** Seeds left out as duplicates of an earlier one, and unreadable rows skipped. */
  duplicates: number
  badRows: number
  /** Rows already in the output file, and rows wanted in total. */
  finished: number
  total: number
  /** True if an incomplete last line of an interrupted run was removed from the output file. */
  repaired: boolean
}

/** A row was written to the output file and synced. */
export interface DistillRowEvent {
  type: 'row'
  /** Rows in the output file so far, of `total`. */
  done: number
  total: number
  row: DistilledRow
}

/** A request failed or its answer is unusable; it is retried after `waitMs`. */
export interface DistillRetryEvent {
  type: 'retry'
  seedId: string
  /** From 1. */
  attempt: number
  reason: string
  waitMs: number
}

/** A seed got no usable answer and is not in the output file; a run with `resume` retries it. */
export interface DistillFailureEvent {
  type: 'failure'
  seedId: string
  /** `file:line` of the seed, or the round of new instructions. */
  origin: string
  reason: string
}

/** A new instruction was discarded as too similar to an existing one. */
export interface DistillDuplicateEvent {
  type: 'duplicate'
  instruction: string
  like: string
  /** ROUGE-L F1 of the two, 0 to 1. */
  similarity: number
}

export interface DistillEndEvent {
  type: 'end'
  reason: 'done' | 'stopped'
  output: string
  /** Rows in the output file, rows wanted, and rows that this run wrote. */
  rows: number
  total: number
  written: number
  /** Seeds, or rounds of new instructions, without a usable answer. */
  failed: number
  /** New instructions discarded as duplicates. */
  duplicates: number
  requests: number
  retries: number
  /** Token counts reported by the endpoint; a local model counts completion tokens only. */
  promptTokens: number
  completionTokens: number
  seconds: number
}

export type DistillEvent =
  | DistillStartEvent
  | DistillRowEvent
  | DistillRetryEvent
  | DistillFailureEvent
  | DistillDuplicateEvent
  | DistillEndEvent
