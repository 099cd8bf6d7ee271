export type { Dtype, PackedBatch } from './addon/addon.js'
export type { Reals, TermOver } from './addon/terms.js'
export { IGNORE_INDEX } from './addon/training.js'
export type { Lengths } from './data/encode/lengths.js'
export type { StringCounts } from './data/encode/report.js'
export {
  alpacaTemplate,
  type Batch,
  type BatchOptions,
  type BatchRow,
  type CompletionRow,
  type ConversationsRow,
  DataLoader,
  type DataLoaderOptions,
  type DataReport,
  type DataSource,
  type InstructionRow,
  type Loader,
  type LoaderBatch,
  type Message,
  type MessagesRow,
  type PaddedBatch,
  type PreferenceRow,
  type PromptReport,
  type PromptRow,
  plainTemplate,
  type RankingRow,
  type Row,
  type RowResponse,
  type RowSource,
  Template,
  type TextRow,
  Tokenizer,
  type TokenizerFiles,
  type TrainOn,
  toBatch,
  toPacked,
  type UnpairedRow,
  type Validation,
  type WeightedSource,
} from './data/index.js'
export type { TextPart } from './data/rows/content.js'
export type { Prefill } from './data/rows/continuation.js'
export type { JsonData } from './data/rows/json-data.js'
export type { PromptOnlyRow } from './data/rows/prompt-rows.js'
export type { Columns } from './data/rows/rows.js'
export type { TextForm } from './data/rows/string-rows.js'
export type { AnyRow, PromptSource, RowOf } from './data/sources.js'
export type { AddedMatch, Guard } from './data/text/added-tokens.js'
export type { Conversation, TemplateArguments } from './data/text/chat.js'
export type { ConversationCounts, RenderedConversation, SegmentOptions } from './data/text/conversation.js'
export type { Segment } from './data/text/template.js'
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
export type { DistillMode, SeedRow, SeedSource } from './distill/options.js'
export { DistillRun } from './distill/run.js'
export { AbortError, type ErrorCode, PosttrainError } from './errors.js'
export {
  type HubEndEvent,
  type HubEvent,
  type HubListener,
  type HubProgressEvent,
  type HubRetryEvent,
  type HubStartEvent,
  type HubUnreachableEvent,
  type HubWaitEvent,
  type HubWarningEvent,
  onHubEvent,
} from './files/hub/events.js'
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
export type { GenerateOptions } from './generate/options.generated.js'
export type { Variant } from './libtorch/archives.js'
export { installLibtorch } from './libtorch/install.js'
export type { InstallEvent, Installed, InstallOptions } from './libtorch/installation.js'
export type { LoadOptions } from './models/base.js'
export {
  CausalLM,
  type CreateOptions,
} from './models/causal-lm.js'
export type { HfConfig } from './models/families/index.js'
export type { Model } from './models/model.js'
export type { LoraOptions } from './models/options.generated.js'
export { type PromptCompletion, type RewardLoadOptions, RewardModel } from './models/reward-model.js'
export type { SaveOptions } from './models/save.js'
export type {
  BackwardOptions,
  EvaluateOptions,
  FurtherSums,
  LogitsModel,
  LossSums,
  LossTerm,
  TermKind,
  TermOf,
} from './models/terms.js'
export type { Parameter } from './models/weights.js'
export { AdamW, type AdamWOptions } from './optim/adamw.js'
export { learningRateAt, type Schedule } from './optim/schedule.js'
export type { Reward, RewardContext, RewardFunction, RewardSample } from './rollout/rewards.js'
export { type DpoRun, dpo } from './train/dpo.js'
export { type GroupRun, grpo, rloo } from './train/grpo.js'
export type {
  DpoOptions,
  GrpoOptions,
  PpoOptions,
  PretrainOptions,
  RewardOptions,
  RlooOptions,
  SftOptions,
} from './train/options/options.generated.js'
export type { DpoLoss } from './train/options/preference.js'
export { ppo } from './train/ppo.js'
export { pretrain } from './train/pretrain.js'
export { reward } from './train/reward.js'
export type {
  CheckpointEvent,
  DpoEvaluationEvent,
  DpoMetrics,
  DpoStepEvent,
  EndEvent,
  EpochEvent,
  EvaluationBase,
  EvaluationEvent,
  GroupStepEvent,
  KtoEvaluationEvent,
  KtoMetrics,
  KtoStepEvent,
  PolicyStepEvent,
  PpoStepEvent,
  RewardEvaluationEvent,
  RewardMetrics,
  RewardStepEvent,
  SampleEvent,
  StartEvent,
  StepBase,
  StepEvent,
  TrainEvent,
  WarningCode,
  WarningEvent,
} from './train/run/events.js'
export { Run, type RunPhase } from './train/run/run.js'
export { sft } from './train/sft.js'
