export type { Dtype, PackedBatch } from './addon/addon.js'
export { IGNORE_INDEX } from './addon/training.js'
export {
  alpacaTemplate,
  type Batch,
  DataLoader,
  type DataLoaderOptions,
  type DataReport,
  type DataSource,
  type LoaderBatch,
  type Message,
  type PaddedBatch,
  plainTemplate,
  type Row,
  Template,
  Tokenizer,
  type TokenizerFiles,
  type TrainOn,
  toPacked,
  type Validation,
} from './data/index.js'
export { distill } from './distill/distill.js'
export type {
  DistillDuplicateEvent,
  DistillEndEvent,
  DistillEvent,
  DistilledRow,
  DistillFailureEvent,
  DistillRetryEvent,
  DistillRowEvent,
  DistillStartEvent,
} from './distill/events.js'
export type { DistillOptions } from './distill/options.generated.js'
export type { SeedRow, SeedSource } from './distill/options.js'
export { DistillRun } from './distill/run.js'
export { AbortError, type ErrorCode, PosttrainError } from './errors.js'
export { type HubEvent, onHubEvent } from './files/hub/events.js'
export { type PushOptions, push } from './files/hub/push.js'
export type { HubOptions } from './files/hub/snapshot.js'
export { chat } from './generate/chat.js'
export {
  type Completion,
  type FinishReason,
  generate,
  type Piece,
  type Prompt,
  stream,
} from './generate/generate.js'
export { installLibtorch } from './libtorch/install.js'
export type { InstallEvent, Installed, InstallOptions } from './libtorch/installation.js'
export type { LoadOptions } from './models/base.js'
export {
  CausalLM,
  type CreateOptions,
} from './models/causal-lm.js'
export type { Model } from './models/model.js'
export type { LoraOptions } from './models/options.generated.js'
export { type PromptCompletion, RewardModel } from './models/reward-model.js'
export type { Parameter } from './models/role.js'
export type { SaveOptions } from './models/save.js'
export type {
  BackwardOptions,
  EvaluateOptions,
  LogitsModel,
  LossSums,
  LossTerm,
  TermKind,
  TermOf,
} from './models/terms.js'
export { AdamW, type AdamWOptions } from './optim/adamw.js'
export { learningRateAt, type Schedule } from './optim/schedule.js'
export type { GenerateOptions } from './options/options.generated.js'
export type { Reward, RewardFunction, RewardSample } from './rollout/rewards.js'
export { dpo } from './train/dpo.js'
export { grpo, rloo } from './train/grpo.js'
export type {
  DpoOptions,
  GrpoOptions,
  PpoOptions,
  PretrainOptions,
  RewardOptions,
  RlooOptions,
  SftOptions,
} from './train/options/options.generated.js'
export { ppo } from './train/ppo.js'
export { pretrain } from './train/pretrain.js'
export { reward } from './train/reward.js'
export type {
  CheckpointEvent,
  EndEvent,
  EpochEvent,
  EvaluationEvent,
  SampleEvent,
  StartEvent,
  StepEvent,
  TrainEvent,
  WarningEvent,
} from './train/run/events.js'
export { Run } from './train/run/run.js'
export { sft } from './train/sft.js'
