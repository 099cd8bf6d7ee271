export { type Dataset, type DatasetOptions, loadDataset } from './dataset.js'
export { type JudgedReport, type JudgedSet, loadPreferences, loadUnpaired } from './judged.js'
export {
  type JudgedLoader,
  mismatched,
  type PreferenceBatch,
  preferenceLoader,
  type UnpairedBatch,
  unpairedLoader,
} from './judged-loader.js'
export type { Answer, JudgedRow, PreferenceRow, RankingRow } from './judged-rows.js'
export { type BatchOptions, DataLoader, type DataLoaderOptions, type LoaderBatch } from './loader.js'
export {
  type EncodedRow,
  type EncodeOptions,
  encodeRow,
  encodeText,
  IGNORE_INDEX,
  splitPrompt,
} from './mask.js'
export { type Batch, isPadded, labelWeight, type PaddedBatch, packRows, padRows, toPacked } from './pack.js'
export {
  loadPrompts,
  type PromptItem,
  type PromptReport,
  type PromptSet,
  readPrompt,
  takePrompts,
} from './prompts.js'
export { type DataSource, type RowSource, spoolRows, type Validation, type WeightedSource } from './read.js'
export type { DataReport } from './report.js'
export {
  type CompletionRow,
  type ConversationsRow,
  type Example,
  type InstructionRow,
  instructionMessages,
  type Message,
  type MessagesRow,
  type Row,
  readRow,
  type TextRow,
} from './rows.js'
export { type PromptRow, Template, type TrainOn } from './template.js'
export { alpacaTemplate, plainTemplate, templateOf } from './templates.js'
export { Tokenizer, type TokenizerFiles } from './tokenizer.js'
export { tokenizerSelection } from './tokenizer-files.js'
