import type { DecoderSpec, WeightMapEntry } from '../../addon/addon.js'
import type { HfConfig } from './config.js'

/** One `model_type`: its config and its weights. */
export interface Family {
  modelType: string
  /** Its class in transformers. */
  architecture: string
  /** Its sequence classifier in transformers: the class of a saved reward model. */
  classifier: string
  /** Prefix of all keys but the head's; a base model saved without its head has none. */
  prefix: string
  /** Keys of tensors that are not weights: masks and frequencies, which are computed. */
  ignore: readonly RegExp[]
  /** config.json -> decoder options. Throws ERR_UNSUPPORTED_MODEL naming the field. */
  decoder(config: HfConfig): DecoderSpec
  /** All tensors of the files and their native parameters, without a tied head. */
  weights(spec: DecoderSpec): WeightMapEntry[]
  /** Standard deviation of new matrices, and the factor on those that write to the residual stream. */
  initialization(config: HfConfig): { std: number; residualScale: number }
  /** Maximum tokens of a document; null if the config sets no limit. */
  contextLength(config: HfConfig): number | null
  /** config.json as it is saved. */
  writeConfig(config: HfConfig): HfConfig
}
