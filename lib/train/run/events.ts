import type { DataReport } from '../../data/index.js'

/** Before the first step: what is trained, on what, for how long. */
export interface StartEvent<Report = DataReport> {
  type: 'start'
  /** 0, or the step a resumed run goes on from. */
  step: number
  /** Optimizer steps, or iterations of PPO, GRPO and RLOO, that the whole run has. */
  totalSteps: number
  /** Passes over the data that the whole run makes. */
  epochs: number
  /** Numbers in the model. */
  parameters: number
  /** Those of them that are trained. */
  trainableParameters: number
  /** The data as read: kept, dropped and why, lengths, warnings. */
  report: Report
  /** The same for the validation rows. */
  validationReport?: DataReport
}

/** What every recipe tells after a step. */
export interface StepBase {
  type: 'step'
  /** From 1. */
  step: number
  /** Position in the data: 1.5 is the middle of the second epoch. */
  epoch: number
  /** In nats; the mean over what the loss counts in the whole step. */
  loss: number
  /** Global L2 norm of the gradients before clipping. */
  gradNorm: number
  /** The one used in this step. */
  learningRate: number
  /** Tokens of the step, padding not counted. */
  tokens: number
  /** Tokens of the step by its time, pauses between events left out. */
  tokensPerSecond: number
  /** Present where the update was not applied: why, and the rows of the step (file:line or index). */
  skipped?: { reason: 'nonFiniteLoss' | 'nonFiniteGradient' | 'noLabels'; rows: string[] }
}

/** After one optimizer step of `sft` or `pretrain`. */
export interface StepEvent extends StepBase {
  /** Labels of the step. */
  trainTokens: number
  /** Fraction of the labels that were the most probable token. */
  tokenAccuracy: number
  /** Mean entropy of the predictions, in nats. */
  entropy: number
}

/** What is said of pairs of answers: means over the pairs of a step, or of the validation rows. */
export interface RewardMetrics {
  /** Share of the pairs whose better answer has the higher score. */
  accuracy: number
  /** Score of the better answer minus that of the worse. */
  margin: number
  /** Mean score of all responses. */
  meanReward: number
  /** Lowest score of a response. */
  minReward: number
  /** Highest score of a response. */
  maxReward: number
}

/** After one optimizer step of `reward`. */
export interface RewardStepEvent extends StepBase, RewardMetrics {}

/** Implicit rewards are beta (log p - log p_ref) of a whole answer, log-probabilities are of whole answers; means. */
export interface DpoMetrics {
  /** Share of the pairs whose chosen response has the higher implicit reward, in [0, 1]. */
  accuracy: number
  /** chosenReward - rejectedReward. */
  margin: number
  /** Implicit reward of chosen responses. */
  chosenReward: number
  /** Implicit reward of rejected responses. */
  rejectedReward: number
  /** Log-probability of chosen responses, in nats. */
  chosenLogProb: number
  /** Log-probability of rejected responses, in nats. */
  rejectedLogProb: number
  /** Tokens of the better answers. */
  chosenLength: number
}

/** After one optimizer step of `dpo` with pairs. */
export interface DpoStepEvent extends StepBase, DpoMetrics {}

/** Means over the desirable responses, or over the others. */
export interface KtoMetrics {
  /** beta (log p - log p_ref) of desirable responses. */
  desirableReward: number
  /** The same of undesirable responses. */
  undesirableReward: number
  /** Reward of desirable minus that of undesirable answers. */
  margin: number
  /** z: the mean log-ratio of mismatched answers, at least 0. */
  kl: number
}

/** After one optimizer step of `dpo` with loss `kto`. */
export interface KtoStepEvent extends StepBase, KtoMetrics {}

/** What PPO, GRPO and RLOO tell of one iteration: a rollout and the updates made from it. */
export interface PolicyStepEvent extends StepBase {
  /** Mean score of the answers, penalties and KL left out, and of each source of rewards. */
  score: number
  scoreBySource: Record<string, number>
  /** Mean over answers of the score with penalties and, where it is part of the reward, the KL penalty. */
  reward: number
  /** Mean over answers of the sum over tokens of log p - log p_ref, in nats; absent without a reference. */
  kl?: number
  /** Weight of the KL penalty in this iteration; absent without a reference. */
  klCoef?: number
  /** Mean entropy of the policy's predictions in the rollout, in nats. */
  entropy: number
  /** Loss of the policy: mean over the updates. */
  policyLoss: number
  /** Mean of half the squared log-ratio of new to old policy over the updates. */
  approxKl: number
  /** Share of the ratios that were clipped, in [0, 1]. */
  clipFraction: number
  /** Mean ratio of new to old policy over the updates. */
  ratioMean: number
  /** Variance of these ratios. */
  ratioVariance: number
  /** Mean tokens of an answer. */
  responseLength: number
  /** Share of the answers that ended by themselves. */
  stoppedFraction: number
  /** Share of the answers that are unlike every other of the iteration. */
  distinctFraction: number
  /** Largest difference of a token's log-probability between rollout and training forward. */
  logProbGap: number
  /** Optimizer steps of the policy in this iteration. */
  updates: number
  /** Time of the parts of the iteration, in seconds. */
  seconds: { rollout: number; score: number; update: number }
}

/** After one iteration of `ppo`. */
export interface PpoStepEvent extends PolicyStepEvent {
  /** Loss of the critic: mean over the updates. */
  valueLoss: number
  /** Share of the values that were clipped, in [0, 1]. */
  valueClipFraction: number
  /** 1 - variance(returns - values) / variance(returns), of the values before the updates. */
  explainedVariance: number
  /** Global L2 norm of the critic's gradients before clipping. */
  valueGradNorm: number
}

/** After one iteration of `grpo` or `rloo`. */
export interface GroupStepEvent extends PolicyStepEvent {
  /** Share of the groups whose rewards all agree, which teach nothing. */
  withoutSpread: number
  /** Mean over groups of the standard deviation of their scores. */
  scoreSpread: number
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

/** What every recipe tells of the validation rows. */
export interface EvaluationBase {
  type: 'evaluation'
  /** Steps done. */
  step: number
  /** Position in the data: 1.5 is the middle of the second epoch. */
  epoch: number
  /** Mean loss of the validation rows, in nats. */
  loss: number
  /** The lowest loss so far. */
  best: boolean
}

/** Of `sft` and `pretrain`: means over all labels of the validation rows. */
export interface EvaluationEvent extends EvaluationBase {
  /** exp(loss). */
  perplexity: number
  /** Fraction of the labels that were the most probable token, in [0, 1]. */
  tokenAccuracy: number
  /** Labels of the validation rows. */
  trainTokens: number
}

/** Evaluation of `dpo` with pairs: means over the pairs of the validation rows. */
export interface DpoEvaluationEvent extends EvaluationBase, DpoMetrics {}

/** Evaluation of `dpo` with loss `kto`: means over the validation rows. */
export interface KtoEvaluationEvent extends EvaluationBase, KtoMetrics {}

/** Evaluation of `reward`: means over the pairs of the validation rows. */
export interface RewardEvaluationEvent extends EvaluationBase, RewardMetrics {}

/** A generation asked for with `samples`, or some answers of a rollout with what they earned. */
export interface SampleEvent {
  type: 'sample'
  step: number
  prompt: string
  text: string
  finishReason: 'stop' | 'length'
  score?: number
  /** Sum over tokens of log p - log p_ref. */
  kl?: number
}

export interface CheckpointEvent {
  type: 'checkpoint'
  step: number
  path: string
}

/** What a warning is about; README's table of troubles has a line for each. */
export type WarningCode =
  | 'noLabels'
  | 'resumeDiffers'
  | 'lossNotFalling'
  | 'validationRises'
  | 'noStopToken'
  | 'klExplodes'
  | 'responsesShrink'
  | 'responsesTruncated'
  | 'entropyCollapse'
  | 'noSpread'
  | 'chosenFalls'
  | 'valueClip'
  | 'ktoBalance'

/** Something that does not stop the run but that its owner should know: what was seen, and what to do. */
export interface WarningEvent {
  type: 'warning'
  step: number
  code: WarningCode
  message: string
}

export interface EndEvent {
  type: 'end'
  /** Why it ended: all steps done, `stop()` or `break`, or no better validation loss. */
  reason: 'completed' | 'stopped' | 'earlyStopping' | 'klLimit'
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
  /** Folder of the trained model, or with LoRA of the adapter. */
  model?: string
}

/** What a recipe tells, discriminated by `type`; `Step` and `Evaluation` are the recipe's own. */
export type TrainEvent<
  Step extends StepBase = StepEvent,
  Evaluation extends EvaluationBase = EvaluationEvent,
  Report = DataReport,
> =
  | StartEvent<Report>
  | Step
  | EpochEvent
  | Evaluation
  | SampleEvent
  | CheckpointEvent
  | WarningEvent
  | EndEvent
