import type { DecoderSpec, Dtype, LossTerm, PackedBatch, TermResult } from '../addon/addon.js'
import { call } from '../addon/call.js'
import { type Batch, labelWeight, Template, Tokenizer, toPacked } from '../data/index.js'
import { PosttrainError } from '../errors.js'
import type { HubOptions } from '../files/hub/snapshot.js'
import { copyBase, createBase, type LoadOptions, type NativeModel, openCore } from './base.js'
import { familyOf, type HfConfig } from './families/index.js'
import { readConfig, readGenerationConfig, weightFiles } from './folder.js'
import { modelSource } from './hub.js'
import type { LoraOptions } from './lora.js'
import type { RewardModel } from './reward-model.js'
import { type Parameter, Role } from './role.js'
import { writeModelFolder, writeTokenizer } from './save.js'
import { planWeights } from './weights.js'

export type { LoadOptions, NativeModel } from './base.js'
export type { Parameter } from './role.js'

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

interface Parts {
  role: Role
  generationConfig: Record<string, unknown>
  tokenizer: Tokenizer
  chatTemplate: string | null
  stopIds: number[] | null
}

/** A model whose weights, or some of them, an optimizer may change. */
export type TrainableModel = CausalLM | RewardModel

/** What models are made of, for the rooms that compute with them. */
const roles = new WeakMap<TrainableModel, Role>()

/** The role behind a model. */
export function roleOf(model: TrainableModel): Role {
  return roles.get(model)!
}

/** Notes the role of a model that is being made. */
export function setRole(model: TrainableModel, role: Role): void {
  roles.set(model, role)
}

/** The native handles of a model; throws ERR_DISPOSED after dispose(). */
export function nativeOf(model: TrainableModel): NativeModel {
  const role = roleOf(model)
  return { core: role.base.core, base: role.base.handle, role: role.handle }
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
  /** Set by a training with a template where the tokenizer has none: saved as chat_template.jinja. */
  #chatTemplate: string | null
  #adopted: Template | null = null
  #stopIds: number[]

  private constructor(parts: Parts) {
    const { config, family, spec, device, dtype } = parts.role.base
    this.config = config
    this.generationConfig = parts.generationConfig
    this.tokenizer = parts.tokenizer
    this.device = device
    this.dtype = dtype
    this.vocabSize = spec.vocabSize
    this.contextLength = family.contextLength(config)
    this.#chatTemplate = parts.chatTemplate
    this.#stopIds = parts.stopIds ?? stopIdsOf(config, parts)
    setRole(this, parts.role)
  }

  /**
   * Loads a Hugging Face folder: config.json, safetensors (single or sharded), tokenizer.json and what lies beside it; or
   * the same from the Hub, `org/name` or `org/name@revision`, through the cache that Hugging Face's own tools use. A path
   * that is there always wins.
   *
   * @throws PosttrainError ERR_HUB and ERR_NETWORK for what cannot be fetched, ERR_INVALID_FILE for missing or damaged files, ERR_UNSUPPORTED_MODEL naming a config field
   * or tensor that is not supported, ERR_INVALID_ARGUMENT for a device or dtype that cannot be.
   */
  static async load(model: string, options: LoadOptions = {}): Promise<CausalLM> {
    const source = await modelSource(model, 'model', options)
    const directory = source.folder
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
    const role = await Role.create(await createBase(core, { family, spec, config, source }, options))
    try {
      await call(core, (cancel) => core.loadTensors(role.handle, files, cancel), options.signal)
    } catch (error) {
      await role.dispose()
      throw error
    }
    const { chatTemplate } = tokenizer
    return new CausalLM({ role, generationConfig, tokenizer, chatTemplate, stopIds: null })
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
    const parts = { family, spec, config: { ...config }, source: null }
    const base = await createBase(core, parts, options)
    await call(core, () => core.initialise(base.handle, { seed, ...family.initialisation(config) }))
    const { tokenizer } = options
    const { chatTemplate } = tokenizer
    return new CausalLM({
      role: await Role.create(base),
      generationConfig: {},
      tokenizer,
      chatTemplate,
      stopIds: null,
    })
  }

  /**
   * A second model on the same weights in memory, with an adapter of its own or, by default, none: the reference of a
   * run is the same base with the adapter off. Each is disposed of alone; the weights go with the last.
   */
  async view(options: { adapter?: string | null } = {}): Promise<CausalLM> {
    const role = await Role.create(roleOf(this).base, { adapter: options.adapter ?? null })
    return new CausalLM({
      role,
      generationConfig: this.generationConfig,
      tokenizer: this.tokenizer,
      chatTemplate: this.#chatTemplate,
      stopIds: [...this.#stopIds],
    })
  }

  /** The same weights a second time in memory, which neither shares with the other; adapters stay behind. */
  async clone(): Promise<CausalLM> {
    const role = await Role.create(await copyBase(roleOf(this).base))
    return new CausalLM({
      role,
      generationConfig: this.generationConfig,
      tokenizer: this.tokenizer,
      chatTemplate: this.#chatTemplate,
      stopIds: [...this.#stopIds],
    })
  }

  /** Names of the adapters on this model's weights. */
  get adapters(): readonly string[] {
    return [...roleOf(this).base.adapters.keys()]
  }

  /** The adapter in use; null for the base alone. */
  get adapter(): string | null {
    return roleOf(this).adapter
  }

  /**
   * Adds low-rank updates (LoRA, arXiv 2106.09685) and puts them to use: from now on they alone are trained, the base
   * is frozen. A starts Kaiming-uniform, B as zero, so that nothing changes at first.
   *
   * @throws PosttrainError ERR_INVALID_ARGUMENT for a name that is taken, or a target module that is not there.
   */
  async addAdapter(name: string, options: LoraOptions = {}): Promise<void> {
    await roleOf(this).addAdapter(name, options)
  }

  /**
   * Reads an adapter as PEFT writes it, from a folder or the Hub, and puts it to use. Throws ERR_INVALID_FILE for one of
   * another base.
   */
  async loadAdapter(name: string, adapter: string, options: HubOptions = {}): Promise<void> {
    const template = await roleOf(this).loadAdapter(name, adapter, options)
    // A base that knows no chat is asked as its adapter was trained.
    if (template !== null && this.#chatTemplate === null) this.adoptTemplate(Template.fromSource(template))
  }

  /** A second adapter with the values of the first, which stays as it is while the first is trained on. */
  async copyAdapter(from: string, to: string): Promise<void> {
    await roleOf(this).copyAdapter(from, to)
  }

  /** Which adapter this model uses from now on; null: the base alone. */
  async setAdapter(name: string | null): Promise<void> {
    await roleOf(this).setAdapter(name)
  }

  /** Writes the adapter in use as a folder that PEFT opens, with the tokenizer beside it. */
  async saveAdapter(directory: string, options: { overwrite?: boolean } = {}): Promise<void> {
    const chatTemplate = this.#chatTemplate
    await roleOf(this).saveAdapter(directory, options.overwrite === true, (folder) =>
      writeTokenizer(folder, { tokenizer: this.tokenizer, chatTemplate }),
    )
  }

  /** Adds the adapter in use to the weights, computed in float32, and takes it off: save() then writes a plain model. */
  async mergeAdapter(): Promise<void> {
    await roleOf(this).mergeAdapter()
  }

  /** Source of the chat template that generation and saving use; null where there is none. */
  get chatTemplate(): string | null {
    return this.#chatTemplate
  }

  /** The template that a training used where the model had none: what later ones take without being told. */
  get adoptedTemplate(): Template | null {
    return this.#adopted
  }

  /** Ids that end an answer: every one of generation_config's, config's and the template's terminators. */
  get stopIds(): readonly number[] {
    return this.#stopIds
  }

  /** Notes the template that a training used: saved with the model where it had none, its terminator among the stop ids. */
  adoptTemplate(template: Template): void {
    if (this.#chatTemplate === null) this.#adopted = template
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
    options: {
      normalizer?: number
      checkpointing?: boolean
      temperature?: number
      dropoutSeed?: number
      signal?: AbortSignal
    } = {},
  ): Promise<LossSums> {
    const packed = toPacked(batch)
    const normalizer = options.normalizer ?? countOf(packed, term)
    const { signal, ...choices } = options
    const given = { ...choices, normalizer: normalizer === 0 ? 1 : normalizer }
    const [sums] = await roleOf(this).backward(packed, [term], given, signal)
    return lossSums(sums!, normalizer)
  }

  /** The same sums without gradients. */
  async evaluate(
    batch: Batch,
    term: LossTerm,
    options: { normalizer?: number; signal?: AbortSignal } = {},
  ): Promise<LossSums> {
    const [sums] = await roleOf(this).evaluate(toPacked(batch), [term], {}, options.signal)
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
    options: { temperature?: number; signal?: AbortSignal } = {},
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
    const { temperature = 1, signal } = options
    const { logProbs } = await call(
      core,
      (cancel) =>
        core.logProbs(role, { inputIds, labels, offsets: Int32Array.from(offsets) }, { temperature }, cancel),
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

  /** Every weight by its name in the files; a tied head is not listed twice. */
  async parameters(): Promise<Parameter[]> {
    return await roleOf(this).parameters()
  }

  /** A copy of a weight, as float32, in the layout of the files. */
  async getParameter(name: string): Promise<{ shape: number[]; values: Float32Array }> {
    return await roleOf(this).getTensor(name, 'value')
  }

  /** A copy of a gradient. */
  async getGradient(name: string): Promise<{ shape: number[]; values: Float32Array }> {
    return await roleOf(this).getTensor(name, 'gradient')
  }

  async setParameter(name: string, values: Float32Array): Promise<void> {
    await roleOf(this).setTensor(name, values)
  }

  /** Sets all gradients to zero, and clears the mark of a failed backward. */
  async zeroGrad(): Promise<void> {
    await roleOf(this).zeroGrad()
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
    const role = roleOf(this)
    if (role.adapter !== null) {
      throw new PosttrainError(
        'ERR_INVALID_ARGUMENT',
        `save() writes the weights of the base, and the adapter ${role.adapter} is in use: saveAdapter() writes it, mergeAdapter() adds it to the weights`,
      )
    }
    const { family } = role.base
    await writeModelFolder(directory, {
      role,
      dtype,
      config: { ...family.writeConfig(this.config), architectures: [family.architecture] },
      generationConfig: this.generationConfig,
      stopIds: this.#stopIds,
      tokenizer: this.tokenizer,
      chatTemplate: this.#chatTemplate,
      overwrite: options.overwrite === true,
      signal: options.signal,
    })
  }

  /** Writes only what is trained, the weights or the adapter, as one file, for a checkpoint. */
  async saveWeights(path: string, signal?: AbortSignal): Promise<void> {
    await roleOf(this).saveTrained(path, signal)
  }

  /** Reads what saveWeights wrote. */
  async loadWeights(path: string): Promise<void> {
    await roleOf(this).loadTrained(path)
  }

  /** Frees the weights. Calls under way end with ERR_DISPOSED, later ones are refused. */
  async dispose(): Promise<void> {
    await roleOf(this).dispose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose()
  }
}

/** What a loss divides by where nothing else is said: the weight of its labels, or of its pairs. */
function countOf(batch: PackedBatch, term: LossTerm): number {
  switch (term.kind) {
    case 'dpo':
    case 'pairwiseReward':
      return Array.from(term.weights ?? new Array<number>(term.pairs.length / 2).fill(1)).reduce(
        (a, b) => a + b,
        0,
      )
    case 'kto':
      return term.desirable.length
    default:
      return labelWeight(batch, term.kind === 'crossEntropy' ? (term.ignoreIndex ?? -100) : -100)
  }
}

function lossSums(sums: TermResult, normalizer: number): LossSums {
  return {
    loss: normalizer === 0 ? 0 : sums.loss / normalizer,
    lossSum: sums.loss,
    count: sums.count,
    correct: sums.correct ?? 0,
    entropySum: sums.entropy ?? 0,
    labels: sums.labels ?? sums.count,
  }
}

export function checkVocabulary(tokenizer: Tokenizer, spec: DecoderSpec): void {
  if (tokenizer.vocabSize <= spec.vocabSize) return
  throw new PosttrainError(
    'ERR_UNSUPPORTED_MODEL',
    `the tokenizer has ${tokenizer.vocabSize} tokens, the model's vocab_size is ${spec.vocabSize}: they do not belong together`,
  )
}

function stopIdsOf(config: HfConfig, { generationConfig, tokenizer }: Parts): number[] {
  const ids = [generationConfig.eos_token_id, config.eos_token_id, tokenizer.eosId].flat()
  return [
    ...new Set(ids.filter((id): id is number => typeof id === 'number' && Number.isInteger(id) && id >= 0)),
  ]
}
