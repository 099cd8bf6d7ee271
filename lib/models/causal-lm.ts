import type { DecoderSpec, Dtype, LossTerm, WeightMapEntry } from '../addon/addon.js'
import { call } from '../addon/call.js'
import { type Batch, labelWeight, type Template, Tokenizer, toPacked } from '../data/index.js'
import { PosttrainError } from '../errors.js'
import { type Family, familyOf, type HfConfig } from './families/index.js'
import { readConfig, readGenerationConfig, weightFiles } from './folder.js'
import { createNative, disposeNative, type LoadOptions, type NativeModel, openCore } from './native.js'
import { writeModelFolder } from './save.js'
import { planWeights } from './weights.js'

export type { LoadOptions, NativeModel } from './native.js'

export interface CreateOptions extends LoadOptions {
  /** Decides the weights; default 0. */
  seed?: number
  tokenizer: Tokenizer
}

/** Sums over the labels of a batch, in nats; nothing but `loss` is divided by anything. */
export interface LossSums {
  /** lossSum / normalizer. */
  loss: number
  lossSum: number
  /** Sum of the label weights. */
  count: number
  correct: number
  entropySum: number
  labels: number
}

export interface Parameter {
  /** As in the files, such as `model.layers.0.self_attn.q_proj.weight`. */
  name: string
  shape: number[]
  dtype: Dtype
  trainable: boolean
}

interface Parts {
  native: NativeModel
  family: Family
  spec: DecoderSpec
  config: HfConfig
  generationConfig: Record<string, unknown>
  tokenizer: Tokenizer
  device: string
  dtype: Dtype
}

/** Native state of models, for the rooms that compute with them. */
const natives = new WeakMap<CausalLM, NativeModel>()

/** The native handles of a model; throws ERR_DISPOSED after dispose(). */
export function nativeOf(model: CausalLM): NativeModel {
  const native = natives.get(model)
  if (native === undefined) throw new PosttrainError('ERR_DISPOSED', 'the model was disposed')
  return native
}

/**
 * A causal language model in memory: a decoder, its tokenizer and its config.
 *
 * ```ts
 * const model = await CausalLM.load('./SmolLM2-135M-Instruct')
 * ```
 */
export class CausalLM {
  /** config.json, as it will be saved. */
  readonly config: HfConfig
  readonly generationConfig: Record<string, unknown>
  readonly tokenizer: Tokenizer
  readonly device: string
  /** Of the weights that the forward uses. */
  readonly dtype: Dtype
  readonly vocabSize: number
  /** Tokens of a document at most; null where nothing says. */
  readonly contextLength: number | null
  readonly #family: Family
  readonly #spec: DecoderSpec
  /** Set by a training with a template where the tokenizer has none: saved as chat_template.jinja. */
  #chatTemplate: string | null
  #stopIds: number[]

  private constructor(parts: Parts) {
    this.config = parts.config
    this.generationConfig = parts.generationConfig
    this.tokenizer = parts.tokenizer
    this.device = parts.device
    this.dtype = parts.dtype
    this.vocabSize = parts.spec.vocabSize
    this.contextLength = parts.family.contextLength(parts.config)
    this.#family = parts.family
    this.#spec = parts.spec
    this.#chatTemplate = parts.tokenizer.chatTemplate
    this.#stopIds = stopIdsOf(parts)
    natives.set(this, parts.native)
  }

  /**
   * Loads a Hugging Face folder: config.json, safetensors (single or sharded), tokenizer.json and what lies beside it.
   *
   * @throws PosttrainError ERR_INVALID_FILE for missing or damaged files, ERR_UNSUPPORTED_MODEL naming a config field
   * or tensor that is not supported, ERR_INVALID_ARGUMENT for a device or dtype that cannot be.
   */
  static async load(directory: string, options: LoadOptions = {}): Promise<CausalLM> {
    const config = await readConfig(directory)
    const family = familyOf(config)
    const spec = family.decoder(config)
    const [tokenizer, generationConfig, paths] = await Promise.all([
      Tokenizer.load(directory),
      readGenerationConfig(directory),
      weightFiles(directory),
    ])
    checkVocabulary(tokenizer, spec)
    const core = await openCore(options)
    const files = await call(core, () => planWeights(core, family, spec, paths))
    const native = await createNative(core, spec, options)
    try {
      await call(core, (cancel) => core.loadTensors(native.base, files, cancel), options.signal)
    } catch (error) {
      await disposeNative(native)
      throw error
    }
    return new CausalLM({
      native,
      family,
      spec,
      config,
      generationConfig,
      tokenizer,
      device: native.device,
      dtype: native.dtype,
    })
  }

  /** A new model with random weights from a config.json object; the same seed gives the same weights everywhere. */
  static async create(config: HfConfig, options: CreateOptions): Promise<CausalLM> {
    const family = familyOf(config)
    const spec = family.decoder(config)
    checkVocabulary(options.tokenizer, spec)
    const seed = options.seed ?? 0
    if (!Number.isSafeInteger(seed) || seed < 0)
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `seed must be a whole number of at least 0, got ${seed}`,
      )
    const core = await openCore(options)
    const native = await createNative(core, spec, options)
    await call(native.core, () =>
      native.core.initialise(native.base, { seed, ...family.initialisation(config) }),
    )
    const { tokenizer } = options
    return new CausalLM({
      native,
      family,
      spec,
      config: { ...config },
      generationConfig: {},
      tokenizer,
      device: native.device,
      dtype: native.dtype,
    })
  }

  /** Source of the chat template that generation and saving use; null where there is none. */
  get chatTemplate(): string | null {
    return this.#chatTemplate
  }

  /** Ids that end an answer: every one of generation_config's, config's and the template's terminators. */
  get stopIds(): readonly number[] {
    return this.#stopIds
  }

  /** Notes the template that a training used: saved with the model where it had none, its terminator among the stop ids. */
  adoptTemplate(template: Template): void {
    this.#chatTemplate ??= template.sourceFor(this.tokenizer)
    const terminator = template.terminator(this.tokenizer)
    if (terminator !== null && !this.#stopIds.includes(terminator))
      this.#stopIds = [...this.#stopIds, terminator]
  }

  /**
   * Gradients of the loss of a batch, added to those already there: `loss` is the sum over its labels divided by
   * `normalizer`, by default the batch's own label weight. To accumulate exactly over several batches give all of them
   * the count of the whole step. A failed or aborted call leaves the gradients unusable until `zeroGrad()`.
   */
  async backward(
    batch: Batch,
    term: LossTerm,
    options: { normalizer?: number; checkpointing?: boolean; signal?: AbortSignal } = {},
  ): Promise<LossSums> {
    const { core, role } = nativeOf(this)
    const packed = toPacked(batch)
    const normalizer = options.normalizer ?? labelWeight(packed, term.ignoreIndex ?? -100)
    const given = {
      normalizer: normalizer === 0 ? 1 : normalizer,
      checkpointing: options.checkpointing ?? false,
    }
    const [sums] = await call(
      core,
      (cancel) => core.backward(role, packed, [term], given, cancel),
      options.signal,
    )
    return lossSums(sums!, normalizer)
  }

  /** The same sums without gradients. */
  async evaluate(
    batch: Batch,
    term: LossTerm,
    options: { normalizer?: number; signal?: AbortSignal } = {},
  ): Promise<LossSums> {
    const { core, role } = nativeOf(this)
    const packed = toPacked(batch)
    const [sums] = await call(core, (cancel) => core.evaluate(role, packed, [term], cancel), options.signal)
    return lossSums(sums!, options.normalizer ?? sums!.count)
  }

  /** Logits [T, vocabSize] of the packed tokens; row t predicts token t + 1. */
  async logits(batch: Batch): Promise<Float32Array> {
    const { core, role } = nativeOf(this)
    return await call(core, (cancel) => core.logits(role, toPacked(batch), cancel))
  }

  /** Log-probabilities of completions after their prompts, token by token and summed. */
  async logProbs(
    rows: readonly { promptIds: Int32Array; completionIds: Int32Array }[],
  ): Promise<{ perToken: Float32Array; sum: number }[]> {
    const { core, role } = nativeOf(this)
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
    const all = await call(core, (cancel) =>
      core.logProbs(role, { inputIds, labels, offsets: Int32Array.from(offsets) }, cancel),
    )
    return rows.map(({ completionIds }, i) => {
      const perToken = all.slice(offsets[i + 1]! - completionIds.length, offsets[i + 1])
      return { perToken, sum: perToken.reduce((sum, value) => sum + value, 0) }
    })
  }

  /** Every weight by its name in the files; a tied head is not listed twice. */
  async parameters(): Promise<Parameter[]> {
    const { core, base } = nativeOf(this)
    const known = new Map(
      (await call(core, () => core.parameters(base))).map((item) => [item.parameter, item]),
    )
    return this.#entries().map((entry) => {
      const { shape, dtype, trainable } = known.get(entry.parameter)!
      const rows = entry.rows === undefined ? shape : [entry.rows[1], ...shape.slice(1)]
      return {
        name: entry.name,
        shape: entry.transpose === true ? rows.toReversed() : rows,
        dtype,
        trainable,
      }
    })
  }

  /** A copy of a weight, as float32, in the layout of the files. */
  async getParameter(name: string): Promise<{ shape: number[]; values: Float32Array }> {
    const { core, base } = nativeOf(this)
    return await call(core, () => core.getTensor(base, this.#entry(name), 'value'))
  }

  /** A copy of a gradient. */
  async getGradient(name: string): Promise<{ shape: number[]; values: Float32Array }> {
    const { core, base } = nativeOf(this)
    return await call(core, () => core.getTensor(base, this.#entry(name), 'gradient'))
  }

  async setParameter(name: string, values: Float32Array): Promise<void> {
    const { core, base } = nativeOf(this)
    await call(core, () => core.setTensor(base, this.#entry(name), values))
  }

  /** Sets all gradients to zero, and clears the mark of a failed backward. */
  async zeroGrad(): Promise<void> {
    const { core, role } = nativeOf(this)
    await call(core, () => core.zeroGrad(role))
  }

  /**
   * Saves a Hugging Face folder, whole or not at all, in the dtype of the weights or the one asked for; config.json
   * says which. A folder already there is refused unless `overwrite` is set.
   */
  async save(
    directory: string,
    options: { dtype?: Exclude<Dtype, 'float64'>; overwrite?: boolean; signal?: AbortSignal } = {},
  ): Promise<void> {
    const dtype = options.dtype ?? (this.dtype === 'float64' ? 'float32' : this.dtype)
    const sizes = new Map(
      (await this.parameters()).map(({ name, shape }) => [name, shape.reduce((n, size) => n * size, 1)]),
    )
    const { core, base } = nativeOf(this)
    await writeModelFolder(directory, {
      core,
      base,
      entries: this.#entries().map((entry) => ({ entry, values: sizes.get(entry.name)! })),
      dtype,
      config: { ...this.#family.writeConfig(this.config), architectures: [this.#family.architecture] },
      generationConfig: this.generationConfig,
      stopIds: this.#stopIds,
      tokenizer: this.tokenizer,
      chatTemplate: this.#chatTemplate,
      overwrite: options.overwrite === true,
      signal: options.signal,
    })
  }

  /** Writes only the weights, as one file, for a checkpoint. */
  async saveWeights(path: string, signal?: AbortSignal): Promise<void> {
    const { core, base } = nativeOf(this)
    const dtype = this.dtype
    await call(
      core,
      (cancel) =>
        core.saveTensors(base, path, this.#entries(), { dtype, metadata: { format: 'pt' } }, cancel),
      signal,
    )
  }

  /** Reads what saveWeights wrote. */
  async loadWeights(path: string): Promise<void> {
    const { core, base } = nativeOf(this)
    await call(core, async (cancel) =>
      core.loadTensors(base, await planWeights(core, this.#family, this.#spec, [path]), cancel),
    )
  }

  /** Frees the weights. Calls under way end with ERR_DISPOSED, later ones are refused. */
  async dispose(): Promise<void> {
    const native = natives.get(this)
    if (native === undefined) return
    natives.delete(this)
    await disposeNative(native)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }

  #entries(): WeightMapEntry[] {
    return this.#family.weights(this.#spec)
  }

  #entry(name: string): WeightMapEntry {
    const entry = this.#entries().find((known) => known.name === name)
    if (entry !== undefined) return entry
    throw new PosttrainError(
      'ERR_INVALID_ARGUMENT',
      `the model has no parameter ${name}; parameters() lists them`,
    )
  }
}

function lossSums(
  sums: { loss: number; count: number; correct: number; entropy: number; labels: number },
  normalizer: number,
): LossSums {
  return {
    loss: normalizer === 0 ? 0 : sums.loss / normalizer,
    lossSum: sums.loss,
    count: sums.count,
    correct: sums.correct,
    entropySum: sums.entropy,
    labels: sums.labels,
  }
}

function checkVocabulary(tokenizer: Tokenizer, spec: DecoderSpec): void {
  if (tokenizer.vocabSize <= spec.vocabSize) return
  throw new PosttrainError(
    'ERR_UNSUPPORTED_MODEL',
    `the tokenizer has ${tokenizer.vocabSize} tokens, the model's vocab_size is ${spec.vocabSize}: they do not belong together`,
  )
}

function stopIdsOf({ config, generationConfig, tokenizer }: Parts): number[] {
  const ids = [generationConfig.eos_token_id, config.eos_token_id, tokenizer.eosId].flat()
  return [
    ...new Set(ids.filter((id): id is number => typeof id === 'number' && Number.isInteger(id) && id >= 0)),
  ]
}
