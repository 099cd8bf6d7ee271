import type { DecoderSpec } from '../addon/addon.js'
import { call } from '../addon/call.js'
import { is, needArgument, needOptions, shown } from '../arguments.js'
import { type Batch, Tokenizer, toPacked } from '../data/index.js'
import { PosttrainError } from '../errors.js'
import type { HubOptions } from '../files/hub/snapshot.js'
import { asStored, Base, type LoadOptions, needLoadOptions, openCore } from './base.js'
import { familyOf, type HfConfig } from './families/index.js'
import { readConfig, readGenerationConfig, weightFiles } from './folder.js'
import { modelSource } from './hub.js'
import { Model, type ModelParts } from './model.js'
import { readRole } from './reading.js'
import { Role } from './role.js'
import { type SaveOptions, writeModelFolder } from './save.js'
import { needRows } from './token-rows.js'
import { planWeights } from './weights.js'

/** Options of `CausalLM.create`, which reads no files. */
export interface CreateOptions extends Omit<LoadOptions, keyof HubOptions> {
  /** Random seed of the weights. An integer of at least 0. Defaults to `0`. */
  seed?: number
  /** Must have no more tokens than the embedding has rows. Required. */
  tokenizer: Tokenizer
}

/**
 * A causal language model in memory: a decoder, its tokenizer and its config.
 *
 * ```ts
 * const model = await CausalLM.load('./SmolLM2-135M-Instruct')
 * ```
 */
export class CausalLM extends Model {
  readonly generationConfig: Record<string, unknown>

  private constructor(role: Role, parts: ModelParts & { generationConfig: Record<string, unknown> }) {
    super(role, parts)
    this.generationConfig = parts.generationConfig
  }

  /**
   * Loads a Hugging Face folder: config.json, safetensors (single or sharded) and the tokenizer's files. `org/name` or
   * `org/name@revision` is fetched from the Hub into the cache that Hugging Face's own tools use. Local paths take
   * precedence.
   *
   * @throws PosttrainError ERR_HUB and ERR_NETWORK for files that cannot be fetched, ERR_INVALID_FILE for missing or
   * damaged files, ERR_UNSUPPORTED_MODEL naming an unsupported config field or tensor, ERR_INVALID_ARGUMENT for a device
   * or dtype that is not available.
   */
  static async load(model: string, options: LoadOptions = {}): Promise<CausalLM> {
    needArgument('CausalLM.load', 'the model', model, is.path)
    needLoadOptions('CausalLM.load', options)
    const source = await modelSource(model, 'model', options)
    const directory = source.folder
    const config = await readConfig(directory)
    const family = familyOf(config)
    const spec = family.decoder(config)
    const paths = await weightFiles(directory)
    const core = await openCore(options)
    const files = await call(core, () => planWeights(core, family, spec, paths))
    const base = await Base.create(core, { family, spec, config, source }, asStored(options, files))
    const others = async () => {
      const [tokenizer, generation] = await Promise.all([
        Tokenizer.load(directory),
        readGenerationConfig(directory),
      ])
      checkVocabulary(tokenizer, spec)
      return newParts(config, tokenizer, generation)
    }
    return new CausalLM(...(await readRole(base, files, others, { signal: options.signal })))
  }

  /** Creates a model with random weights from a config.json object; a seed gives the same weights on every machine. */
  static async create(config: HfConfig, options: CreateOptions): Promise<CausalLM> {
    needArgument('CausalLM.create', 'the config', config, is.object)
    needLoadOptions('CausalLM.create', options)
    needArgument('CausalLM.create', 'option tokenizer', options.tokenizer, is.a(Tokenizer, 'a Tokenizer'))
    const family = familyOf(config)
    const spec = family.decoder(config)
    checkVocabulary(options.tokenizer, spec)
    const seed = options.seed ?? 0
    if (!Number.isSafeInteger(seed) || seed < 0)
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `seed must be a whole number of at least 0, got ${shown(seed)}`,
      )
    const core = await openCore(options)
    const parts = { family, spec, config: { ...config }, source: null }
    const base = await Base.create(core, parts, options)
    await call(core, () => core.initialize(base.handle, { seed, ...family.initialization(config) }))
    return new CausalLM(await Role.create(base), newParts(base.config, options.tokenizer, {}))
  }

  override async view(options: { adapter?: string | null } = {}): Promise<CausalLM> {
    needOptions('view', options, { adapter: is.orNull(is.text) })
    const { generationConfig } = this
    return new CausalLM(await this.role.view(options.adapter), { ...this.parts, generationConfig })
  }

  override async clone(): Promise<CausalLM> {
    const { generationConfig } = this
    return new CausalLM(await this.role.clone(), { ...this.parts, generationConfig })
  }

  /** Logits [T, vocabSize] of the packed tokens; row t predicts token t + 1. */
  async logits(batch: Batch): Promise<Float32Array> {
    const { core, handle } = this.role
    return await call(core, (cancel) => core.logits(handle, toPacked(batch), cancel))
  }

  /** Log-probabilities of completions after their prompts, token by token and summed. */
  async logProbs(
    rows: readonly { promptIds: Int32Array; completionIds: Int32Array }[],
    options: { temperature?: number; signal?: AbortSignal } = {},
  ): Promise<{ perToken: Float32Array; sum: number }[]> {
    needRows('logProbs', rows)
    needOptions('logProbs', options, { temperature: is.number, signal: is.signal })
    const { core, handle } = this.role
    const inputIds = Int32Array.from(
      rows.flatMap(({ promptIds, completionIds }) => [...promptIds, ...completionIds]),
    )
    const labels = Int32Array.from(
      rows.flatMap(({ promptIds, completionIds }) => [...promptIds.map(() => -100), ...completionIds]),
    )
    const offsets = [0]
    for (const { promptIds, completionIds } of rows) {
      if (promptIds.length === 0 || completionIds.length === 0) {
        throw new PosttrainError(
          'ERR_INVALID_ARGUMENT',
          'logProbs needs at least one prompt token and one completion token in each row',
        )
      }
      offsets.push(offsets.at(-1)! + promptIds.length + completionIds.length)
    }
    const { temperature = 1, signal } = options
    const { logProbs } = await call(
      core,
      (cancel) =>
        core.logProbs(
          handle,
          { inputIds, labels, offsets: Int32Array.from(offsets) },
          { temperature },
          cancel,
        ),
      signal,
    )
    return rows.map(({ completionIds }, i) => {
      const values = logProbs.slice(offsets[i + 1]! - completionIds.length, offsets[i + 1])
      return {
        perToken: Float32Array.from(values),
        sum: values.reduce((sum, value) => sum + value, 0),
      }
    })
  }

  /**
   * Saves a Hugging Face folder atomically, in the dtype of the weights or `dtype`; config.json records it. An existing
   * folder is refused unless `overwrite` is set.
   */
  override async save(directory: string, options: SaveOptions = {}): Promise<void> {
    const { family } = this.role.base
    await writeModelFolder(directory, {
      ...this.toSave(directory, options),
      config: { ...family.writeConfig(this.config), architectures: [family.architecture] },
      generationConfig: this.generationConfig,
    })
  }
}

export function checkVocabulary(tokenizer: Tokenizer, spec: DecoderSpec): void {
  if (tokenizer.vocabSize <= spec.vocabSize) return
  throw new PosttrainError(
    'ERR_UNSUPPORTED_MODEL',
    `the tokenizer has ${tokenizer.vocabSize} tokens, the model's vocab_size is ${spec.vocabSize}: this is not the model's tokenizer`,
  )
}

/** The parts of a model that was just read: its template and stop ids come from its files. */
function newParts(config: HfConfig, tokenizer: Tokenizer, generationConfig: Record<string, unknown>) {
  const ids = [generationConfig.eos_token_id, config.eos_token_id, tokenizer.eosId].flat()
  const isId = (id: unknown): id is number => typeof id === 'number' && Number.isInteger(id) && id >= 0
  const stopIds = [...new Set(ids.filter(isId))]
  return { tokenizer, generationConfig, chatTemplate: tokenizer.chatTemplate, stopIds }
}
