export { type Dataset, type DatasetOptions, loadDataset } from './dataset.js'
export {
  type EncodedRow,
  type EncodeOptions,
  encodeRow,
  encodeText,
  IGNORE_INDEX,
  splitPrompt,
} from './encode/mask.js'
export type { DataReport } from './encode/report.js'
export {
  type DataSource,
  type RowSource,
  spoolRows,
  type Validation,
  type WeightedSource,
} from './formats/read.js'
export { type BatchOptions, DataLoader, type DataLoaderOptions, type LoaderBatch } from './loaders/batches.js'
export {
  type Batch,
  isPadded,
  type PaddedBatch,
  packRows,
  padRows,
  toPacked,
} from './loaders/pack.js'
export {
  type JudgedLoader,
  mismatched,
  type PreferenceBatch,
  preferenceLoader,
  type UnpairedBatch,
  unpairedLoader,
} from './loaders/preferences.js'
export { type JudgedReport, type JudgedSet, loadPreferences, loadUnpaired } from './preferences.js'
export {
  loadPrompts,
  type PromptItem,
  type PromptReport,
  type PromptSet,
  readPrompt,
  takePrompts,
} from './prompts.js'
export type { Answer, JudgedRow, PreferenceRow, RankingRow } from './rows/preference-rows.js'
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
} from './rows/rows.js'
export { type PromptRow, Template, type TrainOn } from './text/template.js'
export { alpacaTemplate, plainTemplate, templateOf } from './text/templates.js'
export { Tokenizer, type TokenizerFiles } from './text/tokenizer.js'
export { tokenizerSelection } from './text/tokenizer-files.js'
