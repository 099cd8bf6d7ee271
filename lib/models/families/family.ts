import type { DecoderSpec, WeightMapEntry } from '../../addon/addon.js'
import type { HfConfig } from './config.js'

/** What is special about one `model_type`. */
export interface Family {
  modelType: string
  /** The class that opens it in transformers. */
  architecture: string
  /** The class of its sequence classifier there, which a reward model is saved as. */
  classifier: string
  /** What all keys but the head's start with, and what a base model saved alone leaves out. */
  prefix: string
  /** Keys of files that hold no weights: masks and frequencies that are computed. */
  ignore: readonly RegExp[]
  /** config.json -> decoder options. Throws ERR_UNSUPPORTED_MODEL naming the field. */
  decoder(config: HfConfig): DecoderSpec
  /** Every tensor of a file and where it lives natively; without the head where it is tied. */
  weights(spec: DecoderSpec): WeightMapEntry[]
  /** Standard deviation of new matrices, and the factor on those that write into the residual stream. */
  initialization(config: HfConfig): { std: number; residualScale: number }
  /** The longest document the model can read; null where nothing says. */
  contextLength(config: HfConfig): number | null
  /** config.json as it is saved. */
  writeConfig(config: HfConfig): HfConfig
}
