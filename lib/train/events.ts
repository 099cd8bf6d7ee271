import type { DataReport } from '../data/report.js'

/** Before the first step: what is trained, on what, for how long. */
export interface StartEvent {
  type: 'start'
  /** 0, or the step a resumed run goes on from. */
  step: number
  /** Optimizer steps that the whole run has. */
  totalSteps: number
  epochs: number
  parameters: number
  trainableParameters: number
  /** The data as read: kept, dropped and why, lengths, warnings. */
  report: DataReport
  /** The same for the validation rows. */
  validationReport?: DataReport
}

/** After one optimizer step. Losses are in nats, means over the labels of the whole step. */
export interface StepEvent {
  type: 'step'
  /** From 1. */
  step: number
  /** Position in the data: 1.5 is the middle of the second epoch. */
  epoch: number
  loss: number
  /** Global L2 norm of the gradients before clipping. */
  gradNorm: number
  /** The one used in this step. */
  learningRate: number
  /** Tokens of the step, padding not counted. */
  tokens: number
  /** Labels of the step. */
  trainTokens: number
  tokensPerSecond: number
  /** Fraction of the labels that were the most probable token. */
  tokenAccuracy: number
  /** Mean entropy of the predictions, in nats. */
  entropy: number
  /** Present where the update was not applied: why, and the rows of the step (file:line or index). */
  skipped?: { reason: 'nonFiniteLoss' | 'nonFiniteGradient' | 'noLabels'; rows: string[] }
}

/** After the last step of an epoch. */
export interface EpochEvent {
  type: 'epoch'
  step: number
  /** Epochs done, from 1. */
  epoch: number
  /** Mean over all labels of the epoch, each at the time of its step. */
  loss: number
}

/** Mean over all labels of the validation rows. */
export interface EvaluationEvent {
  type: 'evaluation'
  step: number
  epoch: number
  loss: number
  /** exp(loss). */
  perplexity: number
  tokenAccuracy: number
  trainTokens: number
  /** The lowest loss so far. */
  best: boolean
}

/** A generation asked for with `samples`. */
export interface SampleEvent {
  type: 'sample'
  step: number
  prompt: string
  text: string
  finishReason: 'stop' | 'length'
}

export interface CheckpointEvent {
  type: 'checkpoint'
  step: number
  path: string
}

/** Something that does not stop the run but that its owner should know. */
export interface WarningEvent {
  type: 'warning'
  step: number
  message: string
}

export interface EndEvent {
  type: 'end'
  /** Why it ended: all steps done, `stop()` or `break`, or no better validation loss. */
  reason: 'completed' | 'stopped' | 'earlyStopping'
  /** Optimizer steps made in all, those before a resume included. */
  steps: number
  epochs: number
  /** Loss of the last step that was applied. */
  loss: number
  /** Lowest validation loss and its step, where there was an evaluation. */
  bestLoss?: number
  bestStep?: number
  /** Time of this run in seconds, pauses included. */
  seconds: number
  /** Run folder. */
  output?: string
  /** Folder of the trained model. */
  model?: string
}

/** What a recipe tells, discriminated by `type`. */
export type TrainEvent =
  | StartEvent
  | StepEvent
  | EpochEvent
  | EvaluationEvent
  | SampleEvent
  | CheckpointEvent
  | WarningEvent
  | EndEvent
