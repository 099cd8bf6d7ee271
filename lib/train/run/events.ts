import type { DataReport } from '../../data/index.js'

/** Start of a run, before the first step: its model, data and length. */
export interface StartEvent<Report = DataReport> {
  type: 'start'
  /** 0, or the step that a resumed run continues from. */
  step: number
  /** Optimizer steps of the whole run; iterations in PPO, GRPO and RLOO. */
  totalSteps: number
  /** Epochs of the whole run. */
  epochs: number
  /** Number of parameters of the model. */
  parameters: number
  /** Number of parameters that are trained. */
  trainableParameters: number
  /** Report on the data: rows kept, rows dropped and why, lengths, warnings. */
  report: Report
  /** Report on the validation rows. */
  validationReport?: DataReport
}

/** Fields of the step events of every recipe. */
export interface StepBase {
  type: 'step'
  /** Number of the step, from 1. */
  step: number
  /** Position in the data: 1.5 is the middle of the second epoch. */
  epoch: number
  /** Loss of the whole step, a mean over its labels, pairs or responses; in nats where it is a cross-entropy. */
  loss: number
  /** Global L2 norm of the gradients before clipping. */
  gradNorm: number
  /** Learning rate of this step. */
  learningRate: number
  /** Tokens of the step, padding not counted. */
  tokens: number
  /** Tokens of the step per second, without pauses between events. */
  tokensPerSecond: number
  /** Present if the update was not applied: the reason, and the rows of the step (file:line or index). */
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

/** Metrics of the reward model: means over the pairs of a step, or of the validation rows. */
export interface RewardMetrics {
  /** Share of the pairs whose chosen response has the higher score, in [0, 1]. */
  accuracy: number
  /** Score of the chosen response minus that of the rejected one. */
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

/** Means over pairs. Implicit rewards are beta (log p - log p_ref) of whole responses, as are log-probabilities. */
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
  /** Tokens of chosen responses. */
  chosenLength: number
}

/** After one optimizer step of `dpo` with pairs. */
export interface DpoStepEvent extends StepBase, DpoMetrics {}

/** Metrics of KTO: means over desirable and over undesirable responses. */
export interface KtoMetrics {
  /** beta (log p - log p_ref) of desirable responses. */
  desirableReward: number
  /** beta (log p - log p_ref) of undesirable responses. */
  undesirableReward: number
  /** desirableReward - undesirableReward. */
  margin: number
  /** z: the mean log-ratio of mismatched responses, at least 0. */
  kl: number
}

/** After one optimizer step of `dpo` with loss `kto`. */
export interface KtoStepEvent extends StepBase, KtoMetrics {}

/** After one iteration of PPO, GRPO or RLOO: a rollout and its updates. */
export interface PolicyStepEvent extends StepBase {
  /** Mean raw score of the responses, without penalties and KL, in total and by source of rewards. */
  score: number
  scoreBySource: Record<string, number>
  /** Share of the responses that no source judged; absent where all were. */
  unjudgedFraction?: number
  /** Mean reward of the responses: the score with penalties and, if it is part of the reward, the KL penalty. */
  reward: number
  /** Mean KL of the responses, each the sum over tokens of log p - log p_ref, in nats; absent without a reference. */
  kl?: number
  /** Weight of the KL penalty in this iteration; absent without a reference. */
  klCoef?: number
  /** Mean entropy of the policy's predictions in the rollout, in nats. */
  entropy: number
  /** Policy loss, mean over the updates. */
  policyLoss: number
  /** Mean of half the squared log-ratio of new to old policy over the updates. */
  approxKl: number
  /** Share of the ratios that were clipped, in [0, 1]. */
  clipFraction: number
  /** Mean ratio of new to old policy over the updates. */
  ratioMean: number
  /** Variance of these ratios. */
  ratioVariance: number
  /** Mean length of the responses, in tokens. */
  responseLength: number
  /** Share of the responses that ended with a stop token, in [0, 1]. */
  stoppedFraction: number
  /** Distinct responses of the iteration as a share of all, in [0, 1]. */
  distinctFraction: number
  /** Largest difference of a token's log-probability between rollout and training forward. */
  logProbGap: number
  /** Optimizer steps of the policy in this iteration. */
  updates: number
  /** Time of each part of the iteration, in seconds. */
  seconds: { rollout: number; score: number; update: number }
}

/** After one iteration of `ppo`. */
export interface PpoStepEvent extends PolicyStepEvent {
  /** Loss of the critic, mean over the updates. */
  valueLoss: number
  /** Share of the values that were clipped, in [0, 1]. */
  valueClipFraction: number
  /** 1 - variance(returns - values) / variance(returns), with the values before the updates. */
  explainedVariance: number
  /** Global L2 norm of the critic's gradients before clipping. */
  valueGradNorm: number
}

/** After one iteration of `grpo` or `rloo`. */
export interface GroupStepEvent extends PolicyStepEvent {
  /** Share of the groups whose rewards are all equal, so that their advantages are 0. */
  withoutSpread: number
  /** Mean over groups of the standard deviation of their scores. */
  scoreSpread: number
}

/** After the last step of an epoch. */
export interface EpochEvent {
  type: 'epoch'
  step: number
  /** Number of completed epochs, from 1. */
  epoch: number
  /** Mean loss of the epoch, each step with its weights at that time. */
  loss: number
}

/** Fields of the evaluation events of every recipe. */
export interface EvaluationBase {
  type: 'evaluation'
  /** Number of completed steps. */
  step: number
  /** Position in the data: 1.5 is the middle of the second epoch. */
  epoch: number
  /** Mean loss of the validation rows, in nats. */
  loss: number
  /** Whether the loss is the lowest so far. */
  best: boolean
}

/** Evaluation of `sft` and `pretrain`: means over all labels of the validation rows. */
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

/** A completion of a prompt of `samples`, or a response of a rollout with its score. */
export interface SampleEvent {
  type: 'sample'
  step: number
  prompt: string
  text: string
  finishReason: 'stop' | 'length'
  score?: number
  /** Sum over tokens of log p - log p_ref, in nats. */
  kl?: number
}

export interface CheckpointEvent {
  type: 'checkpoint'
  step: number
  path: string
}

/** Causes of warnings; docs/troubles.md has a section for each. */
export const WARNING_CODES = [
  'noLabels',
  'specialMarks',
  'resumeDiffers',
  'checkpointDamaged',
  'checkpointFailed',
  'metricsFailed',
  'filesRemoved',
  'lossNotFalling',
  'validationRises',
  'noStopToken',
  'klExplodes',
  'responsesShrink',
  'responsesTruncated',
  'entropyCollapse',
  'noSpread',
  'chosenFalls',
  'valueClip',
  'ktoBalance',
] as const

/** Cause of a warning. */
export type WarningCode = (typeof WARNING_CODES)[number]

/** A likely problem that does not stop the run: what was observed, and what to do. */
export interface WarningEvent {
  type: 'warning'
  step: number
  code: WarningCode
  message: string
}

export interface EndEvent {
  type: 'end'
  /** Why it ended: all steps done, `stop()` or `break`, no lower validation loss, or the KL above its limit. */
  reason: 'completed' | 'stopped' | 'earlyStopping' | 'klLimit'
  /** Total number of optimizer steps, including those before a resume. */
  steps: number
  epochs: number
  /** Loss of the last step that was applied. */
  loss: number
  /** Lowest validation loss and its step; absent without an evaluation. */
  bestLoss?: number
  bestStep?: number
  /** Time of this run in seconds, pauses included. */
  seconds: number
  /** Run folder. */
  output?: string
  /** Folder of the trained model, or of the adapter with LoRA. */
  model?: string
  /** Step whose weights that model has: the best one by validation loss, or the last. */
  modelStep?: number
}

/** Events of a recipe, discriminated by `type`; `Step` and `Evaluation` are the recipe's own. */
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
