export { type Dataset, type DatasetOptions, loadDataset } from './dataset.js'
export {
  type EncodedRow,
  type EncodeOptions,
  encodeRow,
  encodeText,
  isPredicted,
  type RowTokens,
  rowsOfText,
} from './encode/mask.js'
export type { DataReport } from './encode/report.js'
export type { Format, SourceRow } from './formats/format.js'
export { ENDINGS_TEXT, FORMATS } from './formats/index.js'
export { DataLoader, type DataLoaderOptions } from './loaders/data-loader.js'
export type { Loader } from './loaders/loader.js'
export {
  type Batch,
  type BatchRow,
  isPadded,
  type PaddedBatch,
  packRows,
  padRows,
  toBatch,
  toPacked,
} from './loaders/pack.js'
export { type PreferenceBatch, preferenceLoader } from './loaders/preferences.js'
export { takePrompts } from './loaders/prompts.js'
export type { ResponseBatch, ResponseLoaderOptions } from './loaders/responses.js'
export { type BatchOptions, type LoaderBatch, rowLoader } from './loaders/rows.js'
export { mismatched, type UnpairedBatch, unpairedLoader } from './loaders/unpaired.js'
export { loadPreferences, type PreferenceGroup, type PreferenceSet } from './preferences.js'
export { encodePrompt, loadPrompts, type PromptItem, type PromptReport, type PromptSet } from './prompts.js'
export type { ResponseOptions, ResponseReport } from './responses.js'
export type { RowResponse } from './rows/conversations.js'
export { bad, fieldsOf, type Origin } from './rows/fields.js'
export { instructionMessages, type Message } from './rows/messages.js'
export { type PreferenceRow, type RankingRow, readPreference } from './rows/preference-rows.js'
export { readPrompt } from './rows/prompt-rows.js'
export {
  type CompletionRow,
  type ConversationsRow,
  type Example,
  type InstructionRow,
  type MessagesRow,
  type Row,
  readRow,
  type TextRow,
} from './rows/rows.js'
export { readUnpaired, type UnpairedRow } from './rows/unpaired-rows.js'
export {
  type DataSource,
  type RowSource,
  readRows,
  spoolRows,
  type Validation,
  type WeightedSource,
} from './sources.js'
export { type PromptRow, Template, type TrainOn } from './text/template.js'
export { alpacaTemplate, chooseTemplate, plainTemplate } from './text/templates.js'
export { Tokenizer, type TokenizerFiles } from './text/tokenizer.js'
export { tokenizerSelection } from './text/tokenizer-files.js'
export { loadUnpaired, type UnpairedResponse, type UnpairedSet } from './unpaired.js'
