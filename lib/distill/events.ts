import type { DistillMode } from './options.js'

/** A row as it stands in the output file; `seedId` is `<mode>-<hash of what was asked>`. */
export type DistilledRow = { seedId: string } & Record<string, unknown>

export interface DistillStartEvent {
  type: 'start'
  mode: DistillMode
  teacher: string
  output: string
  /** Different seeds that were read. */
  seeds: number
  /** Seeds left out because an earlier one is the same, and rows skipped because they cannot be read. */
  duplicates: number
  badRows: number
  /** Rows that were in the output file already, and rows wanted in all. */
  finished: number
  total: number
  /** A last line that was torn when an earlier run ended was taken off the output file. */
  repaired: boolean
}

/** A row that is in the output file, synced. */
export interface DistillRowEvent {
  type: 'row'
  /** Rows in the output file by now, of `total`. */
  done: number
  total: number
  row: DistilledRow
}

/** A request failed, or its answer is of no use: it is asked again after `waitMs`. */
export interface DistillRetryEvent {
  type: 'retry'
  seedId: string
  /** From 1. */
  attempt: number
  reason: string
  waitMs: number
}

/** A seed got no good answer and is not in the output file; a run with `resume` asks for it again. */
export interface DistillFailureEvent {
  type: 'failure'
  seedId: string
  /** `file:line` of the seed, or the round of new instructions. */
  origin: string
  reason: string
}

/** A new instruction that was left out because it is too much like one that is there. */
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
  /** Seeds, or rounds of new instructions, without a good answer. */
  failed: number
  /** New instructions left out as duplicates. */
  duplicates: number
  requests: number
  retries: number
  /** As far as the endpoint says; of a local model, the tokens it wrote. */
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
