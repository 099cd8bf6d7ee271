export { type Dataset, type DatasetOptions, loadDataset } from './dataset.js'
export { type BatchOptions, DataLoader, type DataLoaderOptions, type LoaderBatch } from './loader.js'
export {
  type EncodedRow,
  type EncodeOptions,
  encodeRow,
  encodeText,
  IGNORE_INDEX,
  splitPrompt,
} from './mask.js'
export { type Batch, isPadded, type PaddedBatch, packRows, padRows, toPacked } from './pack.js'
export type { DataSource, RowSource, Validation, WeightedSource } from './read.js'
export type { DataReport } from './report.js'
export { type Example, instructionMessages, type Message, type Row, readRow } from './rows.js'
export {
  alpacaTemplate,
  type PromptRow,
  plainTemplate,
  Template,
  type TrainOn,
  templateOf,
} from './template.js'
export { Tokenizer, type TokenizerFiles } from './tokenizer.js'
